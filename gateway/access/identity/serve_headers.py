"""Identity by the headers that `tailscale serve` adds. Only behind a unix socket, to which only serve connects.

- serve removes a client's headers of these names and adds its own (tailscale.com/kb/1312): the login, encoded by
  RFC 2047 where it is not ASCII, and the grants of capabilities named by `--accept-app-caps`.
- There are no headers for tagged nodes, and none for Funnel, which is the open internet.
- A repeated header, or one with a name that some software reads as the same, is refused.
- Groups are in no header.
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
"""Most identities cached by their headers: the same callers come again with the same ones."""
_OURS: Final = "tailscale"
"""Prefix of Tailscale's headers, before a hyphen, or an underscore that some software reads as a hyphen."""
_PLAIN: Final = re.compile(r"[\x20-\x7e]*")
_WORD: Final = r"=\?[!->@-~]+\?[bBqQ]\?[!->@-~]*\?="
_ENCODED: Final = re.compile(rf"{_WORD}(?: +{_WORD})*")
"""A whole value in RFC 2047's encoded words: Go's `mime` encodes all of a value or nothing (`WordEncoder.Encode`)."""


class ServeHeaders:
    """`identity: "serve-headers"`. Every request is identified by itself: serve shares connections among callers."""

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
    """Return Tailscale's headers by lower-case name. Raises `Refused` for look-alikes and repetitions."""
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
    """Return the text of a header's value. Raises `Refused` for a value that tailscaled does not write.

    A value is decoded only if all of it is encoded words. A mail address may hold "=?" in its local part, and must not
    decode to another caller's address. No address is encoded words as a whole: a host's name does not end in "?=".
    """
    if not _PLAIN.fullmatch(value):
        raise unknown("a Tailscale header is no ASCII text")
    if not _ENCODED.fullmatch(value):
        return value
    try:
        parts = decode_header(value)
        return "".join(part if isinstance(part, str) else part.decode(charset or "ascii") for part, charset in parts)
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        raise unknown("a Tailscale header cannot be decoded") from None
