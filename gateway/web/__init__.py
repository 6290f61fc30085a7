"""Everything that the gateway serves except calls: the HTTP API (`admin/`), pages (`dashboard/`), usage, model lists.

Only `gateway/process/app.py` imports from here. Calls to models are served in `gateway/call/`.
"""
