"""Everything that the gateway serves, except calls to models: the HTTP API, HTML pages, usage and model lists.

Only `gateway/process/` imports from here. Calls to models are served in `gateway/call/`.
"""
