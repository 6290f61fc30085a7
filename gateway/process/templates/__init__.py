"""The files of a new plugin package, as text with placeholders such as `$name`.

`process/new_plugin.py` fills in the placeholders. `pyproject.toml.txt` and `README.md.txt` are the same for all kinds
of plugins. The module and its test are `KIND.py.txt` and `test_KIND.py.txt`.
"""
