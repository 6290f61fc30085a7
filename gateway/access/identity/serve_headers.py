"""Identity by the headers that `tailscale serve` adds.

- This mode is safe only on a unix socket to which only `tailscale serve` connects.
- `tailscale serve` removes Tailscale's headers from a client's request and adds its own (tailscale.com/kb/1312). One
  header has the login. Another has the grants of the capabilities in `--accept-app-caps`. A value that is not ASCII is
  encoded (RFC 2047).
- There is no login for tagged nodes and for requests from the internet (Tailscale Funnel). Such requests are refused.
- A request with a repeated Tailscale header is refused. So is a request with "_" in the name of a Tailscale header,
  because some software treats "_" as "-".
- Callers have no groups, because no header has the groups of a user.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.errors import HeaderParseError
from email.header import decode_header
from functools import lru_cache
from typing import Final

import orjson

from gateway.access.identity.caller import Caller, Identity, unknown, user
from gateway.config.model import Capability
from gateway.config.sections.grant_capabilities import policy_capabilities
from gateway.telemetry.log import Logger

LOGIN: Final = "tailscale-user-login"
CAPABILITIES: Final = "tailscale-app-capabilities"
FUNNEL: Final = "tailscale-funnel-request"
REMEMBERED: Final = 1024
"""Maximum number of cached identities. The cache key is the values of Tailscale's headers."""
_OURS: Final = "tailscale"
"""Beginning of the names of Tailscale's headers, without the hyphen that follows. So `tailscale_...` is found too."""
_PLAIN: Final = re.compile(r"[\x20-\x7e]*")
_WORD: Final = r"=\?[!->@-~]+\?[bBqQ]\?[!->@-~]*\?="
_ENCODED: Final = re.compile(rf"{_WORD}(?: +{_WORD})*")
"""Pattern for a value that consists only of encoded words (RFC 2047).

`tailscale serve` uses Go's `mime.WordEncoder.Encode`, which encodes either the whole value or nothing.
"""


class ServeHeaders:
    """The mode `serve-headers`. It identifies the caller of every request, because callers may share a connection."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._identities = lru_cache(REMEMBERED)(self._identity)

    async def __call__(self, caller: Caller) -> Identity:
        headers = _headers(caller.headers)
        if FUNNEL in headers:
            raise unknown("the request came by Tailscale Funnel, from outside of the tailnet")
        if LOGIN not in headers:
            raise unknown('tailscale serve named no user; tagged nodes need a listener with "identity": "whois"')
        return self._identities(headers[LOGIN], headers.get(CAPABILITIES, ""))

    def _identity(self, login: str, capabilities: str) -> Identity:
        return user(_decode(login), capabilities=self._capabilities(capabilities))

    def _capabilities(self, value: str) -> tuple[Capability, ...]:
        if not value:
            return ()
        try:
            app = orjson.loads(_decode(value))
        except orjson.JSONDecodeError:
            app = None
        if not isinstance(app, dict):
            raise unknown("Tailscale-App-Capabilities is no JSON object")
        capabilities, faults = policy_capabilities(app)
        for fault in faults:
            self._log.warning("identity.policy_grant_ignored", finding=fault)
        return capabilities


def _headers(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the values of Tailscale's headers, by the headers' names in lower case.

    Raises `Refused` if one of Tailscale's headers is repeated or has "_" in its name.
    """
    ours: dict[str, str] = {}
    for written, value in headers:
        if written[: len(_OURS)].lower() != _OURS:
            continue
        name = written.lower()
        if "_" in name or name in ours:
            raise unknown("a Tailscale header is there twice, or under a name that only looks like one")
        ours[name] = value
    return ours


def _decode(value: str) -> str:
    """Return the text of a header's value. Raises `Refused` for a value that is not ASCII or cannot be decoded.

    - Only a value that consists entirely of encoded words (RFC 2047) is decoded. A mail address is never such a value.
    - `tailscale serve` encodes only texts that are not printable ASCII (Go's `mime.QEncoding`). An encoded text of
      printable ASCII is therefore a caller's attempt to get another login. The value is returned without decoding, so
      that the attempt fails.
    """
    if not _PLAIN.fullmatch(value):
        raise unknown("a Tailscale header is no ASCII text")
    if not _ENCODED.fullmatch(value):
        return value
    try:
        parts = decode_header(value)
        text = "".join(part if isinstance(part, str) else part.decode(charset or "ascii") for part, charset in parts)
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        raise unknown("a Tailscale header cannot be decoded") from None
    return value if text and text.isascii() and text.isprintable() else text
