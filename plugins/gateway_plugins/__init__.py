"""The built-in plugins. Each module here is the plugin of one API format.

The name of a module is the format's compatibility flag: a key in the object `compatibility` of a provider.

Translators are in `translators/`, filters in `filters/`. The other folders have code that plugins share.
"""
