"""Requests below `/direct/{provider}/`, which are passed to the provider as they are.

`api.py` reads the request, `target.py` finds the provider and checks the grant, and `send.py` passes the request on.
Nothing here knows the meaning of a path or a body. The plugins of the provider's APIs know it (`target.py`).
"""
