"""Decides whether an attempt with a model at a provider may be made, by the results of the latest attempts.

`circuits.py` has the circuit breakers of all models, and `circuit.py` a single circuit breaker. `window.py` counts the
attempts of a circuit breaker. `standings.py` has types for its state.

This package does no I/O, does not depend on an API format, and does not choose providers. `call/candidate_order.py`
decides the order in which providers are tried.
"""
