"""The health of providers: whether an attempt with a model at a provider may be made, judged by the latest attempts.

`circuits.py` has the circuit breakers of all models, `circuit.py` a single one, and `window.py` its counts.
`standings.py` has their states as values. Nothing here does I/O, knows an API format, or chooses a provider.
`call/candidate_order.py` decides the order in which providers are tried.
"""
