"""The command `irisgate doctor`: checks of the machine, the configuration and the state, and repair of the state.

`command.py` runs the checks in order. `result.py` defines the result that a check returns.
"""
