"""Prices of tokens: the price table as data, and the arithmetic on it.

Other packages import `Prices` from `table.py`. An unknown price is None, never 0.
"""
