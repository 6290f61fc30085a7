"""The health of providers: whether an attempt with a model at a provider may be made, judged by the latest attempts.

Other packages import `Health` from `circuits.py`. `circuit.py` and `window.py` are internal. Nothing here does I/O,
knows an API format, or chooses a provider. `call/candidate_order.py` decides the order in which providers are tried.
"""
