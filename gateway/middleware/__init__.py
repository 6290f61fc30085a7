"""The steps of the chain, in the order in which `app.py` puts them: each file says one thing about a call."""
