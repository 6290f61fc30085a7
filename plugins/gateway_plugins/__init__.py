"""The built-in plugins. Each module here is a compatibility flag: the plugin of one API format.

The name of the module is the flag's key in a provider's `compatibility` object.

Translators are in `translators/`, filters in `filters/`. The other folders have code that plugins share.
"""
