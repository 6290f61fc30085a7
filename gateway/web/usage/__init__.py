"""Reports of usage: the parameters of a request, the formats JSON, CSV and table, and the command `irisgate usage`.

The store computes the sums (`gateway/store/usage.py`). `gateway/web/admin/usage.py` decides which usage a caller may
see.
"""
