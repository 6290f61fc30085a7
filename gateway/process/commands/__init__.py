"""The commands of `irisgate`: the options of each command, and the function that runs it.

`process/command_line.py` imports the module of a command when the command is called. A module has a function
`prepare_NAME` for each of its commands: it adds the command's options to a parser, and sets `run` to the function that
runs the command and returns the exit status.
"""
