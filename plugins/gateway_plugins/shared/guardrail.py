"""Bedrock's `guardrailConfig`, a field of Converse requests. Clients also send it in Chat requests."""

from __future__ import annotations

from gateway.contract.errors import Refused, invalid
from gateway.contract.flag import Drop, Members
from gateway_plugins.shared.checks import struct, text_at
from gateway_plugins.shared.fields import member

_NAME = "guardrailConfig"
_MEMBERS = ("guardrailIdentifier", "guardrailVersion", "trace", "streamProcessingMode")


def read_guardrail(top: Members, drop: Drop) -> dict[str, str]:
    """Return the fields of `guardrailConfig` that have a value, or {} if the request names no guardrail."""
    value = member(top, _NAME)
    if value is None:
        return {}
    at = f"/{_NAME}"
    config = struct(value, at, _MEMBERS, drop)
    texts = {name: text for name in _MEMBERS if (text := text_at(config, name, at))}
    return texts if "guardrailIdentifier" in texts else {}


def unguarded() -> Refused:
    """Return the error for a request that names a guardrail, if the provider has no guardrails."""
    message = f"{_NAME}: this provider has no guardrails; leave it out, or use a provider of Bedrock"
    return invalid(message, _NAME)
