"""The configuration's text: syntax with positions, macros, secrets, redaction, and replacing and watching files.

Other packages import the modules by name. What a key means is decided in `gateway/config/sections/`, never here.
"""
