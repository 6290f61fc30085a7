"""Usage as people ask for it: parameters to a query, rows to JSON, CSV and a table, and the command that shows them.

The sums themselves are the store's (`gateway/store/usage.py`); who may see whose is decided in
`gateway/web/admin/usage.py`.
"""
