"""The built-in plugins. Each module here is one compatibility flag, and its name is the flag's configuration key.

Translators are in `translators/`, filters in `filters/`. The other folders have code that plugins share.
"""
