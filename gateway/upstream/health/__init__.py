"""The health of providers: whether an attempt with a model at a provider may be made, judged by the latest attempts.

`circuits.py` has the circuit breakers of all models, and `circuit.py` a single circuit breaker. `window.py` counts its
attempts. `standings.py` has the states of the circuit breakers as values. Nothing here does I/O, knows an API format,
or chooses a provider. `call/candidate_order.py` decides the order in which providers are tried.
"""
