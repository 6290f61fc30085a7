"""The path of a request below `/direct`: the provider that it names, and the path at the provider.

- The path is forwarded byte for byte. A path is refused if a provider could read it differently than the check of the
  grants does.
- These parts of a path are refused: `//`, `.` and `..` (also percent-encoded, and with parameters as in `..;a`), a
  backslash, and a percent sign that is percent-encoded (double encoding).
- An encoded slash (`%2F`) is part of ids such as ARNs. Some servers take it for a slash. So a grant must allow the path
  in both meanings.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from gateway.contract.errors import Refused, invalid

ROOT: Final = "/direct/"
_ENCODED: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
"""Pattern for a path: the characters that a path may contain (RFC 3986, 3.3), and percent-encoded bytes."""
_SLASH: Final = re.compile("%2f", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\x80-\x9f\\%]")
"""Characters that a decoded path must not have: controls, the backslash, and the percent sign."""


class DirectPath(NamedTuple):
    """The parts of a request's path."""

    provider: str
    """The id of the provider, decoded."""
    rest: str
    """The path at the provider, as the client sent it: percent-encoded, with a slash at its beginning."""
    meanings: tuple[str, str]
    """The two decoded forms of the whole path. Grants must allow both.

    In the first form, each encoded slash is a slash. In the second form, it stays encoded, as `%2F`."""


def direct_path(raw: str) -> DirectPath:
    """Return the parts of a request's path, which is percent-encoded. Raises `Refused` if it is ambiguous."""
    provider, slash, rest = raw.removeprefix(ROOT).partition("/")
    if not slash:
        raise _wrong("ends with the provider; write the provider's own path after it")
    if not _ENCODED.fullmatch(raw):
        raise _wrong("holds a character that must be percent-encoded, or a percent sign that encodes nothing")
    try:
        whole = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise _wrong("is not UTF-8 when it is decoded") from None
    if _CONTROL.search(whole):
        raise _wrong("holds a control character, a backslash or an encoded percent sign")
    segments = whole.removeprefix(ROOT).split("/")
    if any(not segment for segment in segments[:-1]):
        raise _wrong('holds "//"')
    if any(segment.partition(";")[0].strip() in {".", ".."} for segment in segments):
        raise _wrong('holds "." or ".." between slashes')
    return DirectPath(unquote(provider), f"/{rest}", (whole, unquote(_SLASH.sub("%252F", raw))))


def _wrong(fault: str) -> Refused:
    return invalid(f"path: {fault}", "path")
