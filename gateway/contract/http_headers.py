"""Names of HTTP headers, and a function that joins repeated headers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""Pattern for a header's name (RFC 9110, 5.1)."""
FRAMING: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "trailer"})
"""Headers for the framing and the destination of a message. Only the HTTP client sets them."""


def joined_headers(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers by lower-case name, with the values of a repeated header joined by ", "."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers
