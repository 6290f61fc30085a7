"""Fields of a Converse request that become headers when the request goes to Claude through Bedrock's InvokeModel.

- InvokeModel has headers for service tier, latency, metadata, project and guardrail (botocore's service model,
  InvokeModelRequest). Anthropic's own API has no such headers. If the provider has Anthropic's API, a request with a
  guardrail is refused with a 400, because nothing would guard its answer. The other fields are reported as dropped.
- A tag is written around the text of `guardContent`, so that the guardrail checks this text. The name of the tag ends
  with a random suffix, so that no other text can close the tag. The body also has a field with the suffix, for the
  guardrail (AWS user guide, "Apply tags to user input").
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.contract.flag import Drop, Members, Target
from gateway_plugins.dialects.bedrock_converse import read_options as converse_read_options
from gateway_plugins.shared.checks import text_at
from gateway_plugins.shared.guardrail import read_guardrail, unguarded

_INVOKE: Final = "bedrock_model_invoke"
"""Value of `Target.flag` if the provider's API is InvokeModel. Only InvokeModel accepts the headers of this module."""
_HEADER: Final = "x-amzn-bedrock-"
_SUFFIX_BYTES: Final = 10
"""Number of random bytes in the suffix of the tag that `guard_tag` returns.

The suffix has two hexadecimal digits for each byte. Bedrock allows a suffix of up to 20 characters."""
_USUAL: Final = {
    "/serviceTier": "default",
    "/performanceConfig": "standard",
    "/requestMetadata": "{}",
    "/projectIdentifier": "default",
}
"""Default value of each field that becomes a header, by the field's JSON pointer. A default is not sent, because a
missing header has the same effect."""


def headers(top: Members, target: Target, drop: Drop) -> dict[str, str]:
    """Return the headers for those fields of a Converse request that InvokeModel has as headers.

    If the provider's API is not InvokeModel, the fields are reported as dropped. Raises `Refused` if the request names
    a guardrail and the provider has no guardrails.
    """
    metadata = orjson.dumps(converse_read_options.metadata(top)).decode()
    wanted = {
        "/serviceTier": ("service-tier", converse_read_options.service_tier(top, drop)),
        "/performanceConfig": ("performanceconfig-latency", converse_read_options.latency(top, drop)),
        "/requestMetadata": ("request-metadata", metadata),
        "/projectIdentifier": ("projectidentifier", converse_read_options.project(top)),
    }
    sent: dict[str, str] = {}
    for at, (name, value) in wanted.items():
        if value in {"", _USUAL[at]}:
            continue
        if target.flag == _INVOKE:
            sent[_HEADER + name] = value
        else:
            drop(at)
    return sent | guardrail_headers(read_guardrail(top, drop), target, drop)


_TAG: Final = "amazon-bedrock-guardrails-guardContent_"


def has_headers(target: Target) -> bool:
    """Return whether the provider's API is InvokeModel, which has headers for a service tier and other options."""
    return target.flag == _INVOKE


def guard_tag(top: Members, target: Target) -> str:
    """Return a tag name with a random suffix. The tag is written around the text that the guardrail must check.

    Return "" if the request has no guardrail, or if the provider's API is not InvokeModel.
    """
    guarded = target.flag == _INVOKE and read_guardrail(top, lambda _: None)
    return f"{_TAG}{secrets.token_hex(_SUFFIX_BYTES)}" if guarded else ""


def guard_config(tag: str) -> dict[str, Any]:
    """Return the field of an InvokeModel body that tells Bedrock's guardrail the suffix of `tag`.

    The guardrail checks the text inside this tag.
    """
    return {"amazon-bedrock-guardrailConfig": {"tagSuffix": tag.removeprefix(_TAG)}}


def guardrail_headers(config: Mapping[str, Any], target: Target, drop: Drop) -> dict[str, str]:
    """Return the headers for `guardrailConfig`, or {} if the request names no guardrail.

    Raises `Refused` if the request names a guardrail and the provider has no guardrails.
    """
    if not config:
        return {}
    if target.flag != _INVOKE:
        raise unguarded()
    if config.get("streamProcessingMode") not in (None, "sync"):
        drop("/guardrailConfig/streamProcessingMode")
    at = "/guardrailConfig"
    names = {"guardrailidentifier": "guardrailIdentifier", "guardrailversion": "guardrailVersion", "trace": "trace"}
    texts = {name: text_at(config, member, at) for name, member in names.items()}
    texts["trace"] = texts["trace"].upper()
    return {_HEADER + name: value for name, value in texts.items() if value}
