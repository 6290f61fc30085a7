"""The address of a request: the origin (scheme, host, port) and the request target (path and query). Both come from a
provider's base URL and the path of an API.

Nothing here opens a connection or resolves a name.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import quote

from yarl import URL

_VERSION_AT_END: Final = re.compile(r"/v[0-9]+[a-z0-9]*$")
_VERSION_OF_RESOURCES: Final = re.compile(r"^/v[0-9]+[a-z0-9]*/(?:projects|publishers)/")
"""Pattern for paths of Google Cloud's resources, which begin with a version: `/v1/projects/P/locations/L/…`."""
_VERSION_AT_START: Final = re.compile(r"^/v[0-9]+[a-z0-9]*(?=/)")
_VISIBLE: Final = re.compile(r"[!\"$-~]*")
"""Characters that may occur in a request target (RFC 9112, 3.2). `#` would begin a fragment."""
_KEPT: Final = "".join(map(chr, range(0x21, 0x7F))).replace("#", "")
"""Characters that are not percent-encoded. `%` is one of them, because paths are encoded already."""


class Origin(NamedTuple):
    """A scheme, host and port."""

    scheme: str
    host: str
    """The host name in ASCII, or the IP address without brackets."""
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Endpoint(NamedTuple):
    """The destination of a connection. Calls to the same endpoint share connections."""

    origin: Origin
    authorities: str
    """The accepted CA certificates in PEM format. The value is "" if the system's CA certificates are accepted."""


class Base(NamedTuple):
    """A provider's base URL."""

    origin: Origin
    authority: str
    """The value of the header `Host`: the host, and the port unless it is the default port of the scheme."""
    path: str
    """The path without a slash at its end."""
    has_version: bool
    """Whether the path has a version: at its end, such as `/v1` or `/api/paas/v4`, or at its start, as in Google
    Cloud's `/v1/projects/P`."""

    def replaces_version(self, path: str) -> bool:
        """Return whether `target` puts another version in place of the version at the start of `path`.

        For example, if the base URL ends with `/v4`, `/v1/models` becomes `/v4/models`.
        """
        own, given = _VERSION_AT_END.search(self.path), _VERSION_AT_START.match(path)
        return own is not None and given is not None and own[0] != given[0]

    def target(self, path: str, query: str) -> str:
        """Return the request target for a path below the base URL, without a doubled slash.

        If the base URL ends with a version, such as `/v1`, a version at the start of `path` is left out. The path is
        already percent-encoded. Only characters that a request line cannot have are encoded here.
        """
        if self.has_version:
            path = _VERSION_AT_START.sub("", path)
        target = f"{self.path}{path}?{query}" if query else self.path + path
        return target if _VISIBLE.fullmatch(target) else quote(target, safe=_KEPT)


@lru_cache(maxsize=1024)
def base(baseurl: str) -> Base:
    """Return the parts of a base URL. The configuration has already checked it.

    The URL may have a path, as for Bedrock: `https://bedrock-runtime.us-east-1.amazonaws.com/anthropic`.
    """
    url = URL(baseurl.rstrip("/"), encoded=True)
    origin = Origin(url.scheme, str(url.raw_host), int(url.port or 0))
    path = url.raw_path.rstrip("/")
    has_version = bool(_VERSION_AT_END.search(path) or _VERSION_OF_RESOURCES.match(path))
    return Base(origin, url.host_port_subcomponent or "", path, has_version)
