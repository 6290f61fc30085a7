"""The names of the provider's reply headers that are passed on to clients.

- Headers in `_NAMES` are passed on. This list is the same for all API formats, because a format may be used by several
  companies with different headers. The plugin of an API format may name further headers (`Flag.passed_headers`).
- Headers about the gateway's account at the provider are not passed on, because clients need not know it:
  `openai-organization`, `openai-project` and `anthropic-organization-id`.
- Headers about the connection to the provider are not passed on.
- Headers with a policy for a host name, such as Strict-Transport-Security, are not passed on. Clients would apply the
  policy to the gateway's host name.

Sources: the API references of OpenAI (Debugging requests, Rate limits) and Anthropic (Rate limits), the SDKs, and
botocore's service model.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import product
from typing import Final

from gateway.contract.flag import Headers

_PLAIN: Final = (
    "content-type", "retry-after", "retry-after-ms", "x-amz-retry-after", "x-should-retry", "cf-ray",
    # ids and times of the request
    "request-id", "apim-request-id", "openai-processing-ms", "openai-version", "openai-model", "x-amzn-requestid",
    "x-amzn-trace-id",
    # errors and results of Bedrock
    "x-amzn-errortype", "x-amzn-errormessage", "x-amzn-bedrock-content-type", "x-amzn-bedrock-invocation-latency",
    "x-amzn-bedrock-input-token-count", "x-amzn-bedrock-output-token-count",
    "x-amzn-bedrock-cache-read-input-token-count", "x-amzn-bedrock-cache-write-input-token-count",
    "x-amzn-bedrock-performanceconfig-latency", "x-amzn-bedrock-service-tier",
)  # fmt: skip
_UNIFIED: Final = "anthropic-ratelimit-unified-"
"""Prefix of Anthropic's headers about the usage limits of a subscription. Claude Code shows these limits to its users.
"""
_NAMES: Final = frozenset(
    {
        *_PLAIN,
        *map("x-ratelimit-{0[0]}-{0[1]}".format, product(("limit", "remaining", "reset"), ("requests", "tokens"))),
        *map(
            "anthropic-{0[0]}-{0[1]}".format,
            product(
                (
                    "ratelimit-requests", "ratelimit-tokens", "ratelimit-input-tokens", "ratelimit-output-tokens",
                    "priority-input-tokens", "priority-output-tokens", "fast-input-tokens", "fast-output-tokens",
                ),
                ("limit", "remaining", "reset"),
            ),
        ),
        *map(
            f"{_UNIFIED}{{0[0]}}-{{0[1]}}".format,
            product(("5h", "7d", "7d_opus", "7d_sonnet", "overage"), ("status", "reset", "utilization")),
        ),
        *(
            f"{_UNIFIED}{name}"
            for name in ("status", "reset", "representative-claim", "fallback", "fallback-percentage",
                         "overage-disabled-reason", "upgrade-paths")
        ),
    }
)  # fmt: skip


def forwarded(headers: Headers, more: Collection[str] = ()) -> dict[str, str]:
    """Return the headers whose name is in `_NAMES` or `more` and whose value is printable."""
    return {name: value for name, value in headers.items() if (name in _NAMES or name in more) and value.isprintable()}
