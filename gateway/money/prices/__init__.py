"""The prices of tokens, and the computation of costs.

Other packages import `Prices` from `table.py`. An unknown price is None, never 0.
"""
