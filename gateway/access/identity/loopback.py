"""The mode `loopback`: every caller has the login `(loopback)`. Only this machine can connect to 127.0.0.1 and ::1.

Callers on other machines can reach such a listener only in two ways. The gateway refuses them:

- A proxy on this machine, such as `tailscale serve`, may forward their requests. The gateway recognizes a proxy by the
  headers that it adds, such as `x-forwarded-for`. A proxy that adds no header is not recognized.
- If tailscaled has no network device, connections from the tailnet come from tailscaled at 127.0.0.1
  (tailscale.com/kb/1112). So the gateway asks each tailscaled whose socket it knows for the identity behind each new
  connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final
from weakref import WeakSet

from gateway.access.identity.addresses import bare
from gateway.access.identity.caller import LOOPBACK, Caller, Identity, unknown
from gateway.access.identity.localapi import LocalApiFailed
from gateway.access.identity.lookups import Lookups
from gateway.access.identity.whois import RETRY_SECONDS
from gateway.contract.errors import UNAVAILABLE, Problem, Refused
from gateway.contract.small_cache import small_cache

_NAMES: Final = frozenset({"forwarded", "x-real-ip", "x-client-ip", "cf-connecting-ip", "true-client-ip"})
_PREFIXES: Final = ("x-forwarded-", "tailscale-")
"""Lower-case prefixes of headers that proxies add. `_NAMES` has the full names of further headers."""


class Loopback:
    """The mode `loopback`. `daemons` returns a LocalAPI client for each known tailscaled process."""

    def __init__(self, daemons: Callable[[], Iterable[Lookups]]) -> None:
        self._daemons = daemons
        self._local: WeakSet[object] = WeakSet()

    async def __call__(self, caller: Caller) -> Identity:
        if header := forwarding_header(caller.headers):
            raise _refusal(f'a proxy forwarded this request (it has the header "{header}")')
        if caller.connection not in self._local:
            if isinstance(caller.peer, tuple):
                await self._refuse_tailnet(str(bare(caller.peer[0])), caller.peer[1])
            self._local.add(caller.connection)
        return LOOPBACK

    async def _refuse_tailnet(self, host: str, port: int) -> None:
        """Raise `Refused` if a tailscaled without a network device forwarded this connection from the tailnet.

        Also raise `Refused` if a tailscaled does not reply, because that tailscaled may have forwarded the connection.
        """
        for daemon in tuple(self._daemons()):
            try:
                forwarded = await daemon.is_userspace() and await daemon.whois(host, port) is not None
            except LocalApiFailed as error:
                message = f"access denied: tailscaled ({daemon.socket}) may have forwarded this connection, and {error}"
                raise Refused(Problem(UNAVAILABLE, message, retry_after=RETRY_SECONDS, retryable=True)) from None
            if forwarded:
                raise _refusal("tailscaled forwarded this connection from the tailnet")


def forwarding_header(headers: Sequence[tuple[str, str]]) -> str:
    """Return the name of the first header that only proxies add, or "" if there is none."""
    return _forwarding("\n".join([name for name, _ in headers]))


@small_cache(64, 1024)
def _forwarding(names: str) -> str:
    """Return the first of the header names in `names` that only proxies add, or "" if there is none.

    `names` has one name per line.
    """
    return next(
        (name for name in names.split("\n") if (low := name.lower()) in _NAMES or low.startswith(_PREFIXES)), ""
    )


def _refusal(reason: str) -> Refused:
    return unknown(
        f'{reason}, and to this listener everybody would be (loopback); set "identity": "whois" for callers of the '
        'tailnet, "serve-headers" on a unix socket behind tailscale serve, or "static" with a login for all'
    )
