"""Everything that the gateway serves, except calls to models: the HTTP API, HTML pages, usage and model lists.

Only `gateway/process/` imports this package. Calls to models are served in `gateway/call/`.
"""
