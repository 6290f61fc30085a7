"""What tokens cost: the table of prices as data, and the arithmetic on it.

Import `Prices` from `table.py`. A price that nobody knows is None, never 0.
"""
