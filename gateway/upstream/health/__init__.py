"""The health of providers: which model at which provider is tried now, by how its latest attempts ended.

`circuits.Health` is for all other rooms, and `circuit.py` and `window.py` are for this room. No file here does I/O,
knows an API format, or chooses a provider: the order of the candidates is the catalog's.
"""
