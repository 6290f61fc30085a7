"""Irisgate: a self-hosted AI gateway for a tailnet.

The way of a request begins in `call/server.py`; `process/app.py` wires the parts; `contract/flag.py` is what a plugin
is written against.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("irisgate")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+source"
