"""Where records are kept: `base.py` says what a store promises, `sqlite.py` keeps it."""
