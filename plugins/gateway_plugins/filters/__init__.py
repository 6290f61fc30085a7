"""The built-in filters. Each module is one filter, which the configuration switches on under `plugins`."""
