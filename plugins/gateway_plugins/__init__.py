"""The built-in plugins: one file a compatibility flag, named as its key in the configuration."""
