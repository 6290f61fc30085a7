"""The built-in plugins. Each module here is the plugin of one API format. It has the name that its compatibility flag
has in the configuration.

Translators are in `translators/`, filters in `filters/`. The other folders have code that plugins share.
"""
