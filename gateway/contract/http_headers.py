"""Names and values of HTTP headers: which names suggest a secret, and how values are joined, cleaned and compared."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""Pattern for a header's name (RFC 9110, 5.1)."""
FRAMING: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "trailer"})
"""Names of headers about the connection, the destination and the length of a message. Only the HTTP client sets
them."""
SECRET_NAMED: Final = re.compile(
    r"auth|cookie|key|token|secret|passw|pwd|credential|signature|bearer|jwt", re.IGNORECASE
)
"""Pattern for the names of headers and URL parameters that may contain secrets. Their values are never stored.

Clients choose these names freely. So this pattern has more words than the one for secrets in the log
(`telemetry/log.py`): it is better to hide a harmless header than to store a key.
"""

MAX_HEADER_VALUE: Final = 256
"""Maximum number of characters of a recorded header's value. Longer values are cut, and end with "…"."""
_MAX_READ: Final = 4 * MAX_HEADER_VALUE
"""Maximum number of characters that `header_value` reads. It is larger than `MAX_HEADER_VALUE`, because `header_value`
first removes repeated white space."""


def header_value(value: str) -> str:
    r"""Return the form in which the value of a header is recorded and compared.

    White space becomes single spaces, and the text is cut to `MAX_HEADER_VALUE` characters.

    >>> header_value(" alpha\\t beta\\u202e ")
    'alpha beta\ufffd'
    """
    text = " ".join(printable(value[:_MAX_READ]).split())
    is_whole = len(text) <= MAX_HEADER_VALUE and len(value) <= _MAX_READ
    return text if is_whole else text[: MAX_HEADER_VALUE - 1] + "…"


def printable(text: str) -> str:
    """Return a text with U+FFFD for each character that is neither white space nor printable.

    Such characters are controls, invalid bytes, and marks that change the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char.isspace() else "\ufffd" for char in text)


def joined_headers(pairs: Collection[tuple[str, str]]) -> dict[str, str]:
    """Return the headers by lower-case name, with the values of a repeated header joined by ", "."""
    headers = {name.lower(): value for name, value in pairs}
    if len(headers) == len(pairs):
        return headers
    headers.clear()
    for name, value in pairs:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers
