"""Names of HTTP headers, and a function that makes `messages.Headers` from the header lines of a message."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name (RFC 9110, 5.1)."""
FRAMING: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "trailer"})
"""Headers that say where a message begins and ends, and where it goes. Only the HTTP client sets them."""


def joined_headers(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers of a message by name in lower case. The values of a repeated header are joined by ", ".

    `pairs` has the name and value of each header line, in the order of the message.
    """
    headers: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers
