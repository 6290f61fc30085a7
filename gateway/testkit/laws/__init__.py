"""The laws of plugins: what must hold for every compatibility flag, translator and observer, whoever wrote it.

- `flag_laws.py`, `translator_laws.py` and `observer_laws.py` have the laws; `check.py` runs them on one plugin.
- A law tries a plugin on its samples (`gateway/contract/samples.py`), and on damaged and divided forms of them. Nothing
  is random, so a law that is broken is broken again by the next run.
- Plugins are called through their hooks, so that the judge of results and exceptions is that of the gateway.

`irisgate plugins check` prints the results. Tests of plugins call `check.py` themselves.
"""
