"""The built-in plugins. Each file is one compatibility flag, and its name is the flag's key in the configuration."""
