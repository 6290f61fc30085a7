"""The configuration's text: syntax with positions, macros, secrets, redaction, and replacing and watching files.

Import a module by its name. What a key means is decided in `gateway/config/sections/`, never here.
"""
