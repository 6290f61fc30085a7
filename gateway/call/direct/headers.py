"""The headers of requests and replies below `/direct`. All headers are passed on, except the following:

- The client's credentials, and headers about the client's network. The provider gets the gateway's credential instead.
- Headers about a connection, because the gateway sets its own (RFC 9110, 7.6.1).
- Headers such as `x-http-method-override`, by which some servers replace the method or the path of a request. The grant
  was checked for the method and the path in the request line.
- Headers of a reply that set policies for the gateway's origin in a browser. The gateway also adds headers that keep
  the browser from running the reply.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.contract.flag import Headers
from gateway.contract.http_headers import FRAMING

_NAME: Final = re.compile("[a-z0-9-]+")
"""Pattern for the names of headers that are passed on. Some servers read `_` as `-`, so that `x_api_key` would be a
credential. nginx leaves such headers out too."""
_HOPS: Final = FRAMING | {"keep-alive", "expect", "proxy-authenticate", "proxy-authorization", "proxy-connection"}
_CREDENTIAL: Final = re.compile(r"auth|cookie|token|secret|passw|credential|signature|jwt|(?:^|-)(?:api)?key(?:-|$)")
"""Pattern for the names of headers that hold a credential."""
_NO_CREDENTIALS: Final = frozenset({"idempotency-key"})
_CLIENTS_ONLY: Final = frozenset(
    {
        # how this gateway was reached
        "forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "origin", "referer", "dnt",
        # of a signature that covers this gateway's host
        "x-amz-date", "x-amz-content-sha256",
        # another method or path than that of the request line
        "x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-original-uri",
        "x-rewrite-url",
        # another account than that of the gateway's credential
        "openai-organization", "openai-project", "anthropic-organization-id", "x-goog-user-project",
        # the gateway reads replies, so it asks for uncompressed ones
        "accept-encoding",
    }
)  # fmt: skip
_CLIENTS_PREFIXES: Final = ("x-forwarded-", "tailscale-", "sec-", "cf-", "x-envoy-", "x-irisgate-")
_PROVIDERS_ONLY: Final = frozenset(
    {
        "content-encoding", "date", "server", "set-cookie", "set-cookie2", "www-authenticate", "alt-svc", "refresh",
        "clear-site-data", "strict-transport-security", "public-key-pins", "expect-ct", "nel", "report-to",
        "reporting-endpoints", "content-security-policy", "content-security-policy-report-only",
        "service-worker-allowed", "x-content-type-options", "sourcemap",
        # the gateway's account at the provider
        "openai-organization", "openai-project", "anthropic-organization-id",
    }
)  # fmt: skip
_PROVIDERS_PREFIXES: Final = ("access-control-", "cross-origin-", "x-irisgate-")
_INERT: Final = {"content-security-policy": "sandbox; default-src 'none'", "x-content-type-options": "nosniff"}
"""Headers that keep a browser from running a reply as a page of the gateway."""


def for_provider(headers: Headers) -> dict[str, str]:
    """Return those headers of the client's request that are passed on to the provider."""
    dropped = _HOPS | _CLIENTS_ONLY | _named_by_connection(headers)
    return {
        name: value
        for name, value in headers.items()
        if name not in dropped
        and _NAME.fullmatch(name)
        and not name.startswith(_CLIENTS_PREFIXES)
        and (name in _NO_CREDENTIALS or not _CREDENTIAL.search(name))
    }


def for_client(headers: Headers) -> dict[str, str]:
    """Return the headers for the client: the provider's headers that are passed on, and the headers that the gateway
    adds (`_INERT`).
    """
    dropped = _HOPS | _PROVIDERS_ONLY | _named_by_connection(headers)
    passed = {
        name: value
        for name, value in headers.items()
        if name not in dropped and not name.startswith(_PROVIDERS_PREFIXES) and value.isprintable()
    }
    return {"content-type": "application/octet-stream", **passed, **_INERT}


def _named_by_connection(headers: Headers) -> set[str]:
    """Return the names in the header `connection`. The headers of these names are for one connection only."""
    return {name.strip().lower() for name in headers.get("connection", "").split(",")}
