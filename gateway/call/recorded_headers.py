"""The values of headers that are recorded with a call, so that calls can be filtered by these values
(`database.filterable`).

- A value is read from the request. If the request lacks the header, the value is read from the reply of the provider
  that was tried last.
- Repeated headers are joined by ", ". `header_value` cleans a value and cuts it to a maximum length.
- Secrets within a value, such as a bearer token or a key in a URL, are replaced by `[redacted]`.
- For callers without a role, no headers are recorded, so that such callers cannot add values to the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from multidict import CIMultiDictProxy

from gateway.access.identity.caller import Identity
from gateway.call.capture import without_secrets
from gateway.call.runtime import Runtime
from gateway.contract.http_headers import MAX_HEADER_VALUE, header_value, printable
from gateway.contract.small_cache import small_cache

_NONE: Final[Mapping[str, str]] = {}
"""The recorded headers of most calls: none. It is a plain `dict`, because the journal can encode no other mapping."""
_NAME: Final = "value"
"""A header name for `without_secrets` that suggests no secret, so that only the value decides whether it is redacted.

It is used for every recorded header: the configuration refuses to record headers whose own names suggest a secret.
"""


def of_request(headers: CIMultiDictProxy[str], runtime: Runtime, identity: Identity | None) -> Mapping[str, str]:
    """Return those headers of a request that are recorded with the call. Names are in lower case, and each has one
    value.
    """
    names = runtime.config.filterable_headers
    if not names or identity is None or runtime.grants.access(identity).role is None:
        return _NONE
    return {name: _recorded(", ".join(headers.getall(name))) for name in names if name in headers}


def with_reply(recorded: Mapping[str, str], names: Iterable[str], reply: Mapping[str, str]) -> Mapping[str, str]:
    """Return the recorded headers of a call: the headers `recorded` of its request, and those that only the reply has.

    `names` contains the names of all headers to record. `reply` has the headers of the provider's reply, with names in
    lower case.
    """
    added = {name: _recorded(reply[name]) for name in names if name in reply and name not in recorded}
    return {**recorded, **added} if added else recorded


@small_cache(1024, MAX_HEADER_VALUE)
def _recorded(value: str) -> str:
    """Return the form in which a value is recorded. Secrets are removed before the value is cut, because a part of a
    secret is secret too.
    """
    return header_value(without_secrets({_NAME: printable(value)})[_NAME])
