"""The laws of plugins, that is, rules that must hold for every compatibility flag, translator, filter and observer.

- `flag_laws.py`, `place_laws.py`, `translator_laws.py`, `filter_laws.py` and `observer_laws.py` have the laws.
  `check.py` runs them on one plugin.
- A law tests a plugin with its samples (`gateway/contract/samples.py`), with damaged samples, and with samples cut into
  chunks. Nothing is random, so the next run repeats a failure.
- Plugins are called through their hooks, so that results and exceptions are checked as in the gateway.

`irisgate plugins check` prints the results. Tests of plugins call `check.py` themselves.
"""
