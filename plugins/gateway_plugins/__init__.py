"""The built-in plugins. Each module here is the plugin of one API format, named as its compatibility flag is in the
configuration.

Translators are in `translators/`, filters in `filters/`. The other folders have code that plugins share.
"""
