"""Irisgate: a self-hosted AI gateway for a tailnet.

`call/server.py` receives the requests. `process/app.py` creates and connects the parts of the gateway.
`contract/flag.py` defines the interface of plugins.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("irisgate")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+source"
