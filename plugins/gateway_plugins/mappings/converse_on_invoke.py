"""What a Converse request has beside the conversation, where Claude answers it by InvokeModel or by its own API.

InvokeModel takes these as headers (botocore's service model, InvokeModelRequest); Anthropic's API has none of them.
There a guardrail is a 400, since answers would be unguarded, and the rest is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.contract.flag import Drop, Members, Target
from gateway_plugins.dialects.bedrock_converse import read_options as converse_read_options
from gateway_plugins.dialects.bedrock_converse.read import text_at

_INVOKE: Final = "bedrock_model_invoke"
"""The envelope that takes the headers."""
_HEADER: Final = "x-amzn-bedrock-"
_USUAL: Final = {
    "/serviceTier": "default",
    "/performanceConfig": "standard",
    "/requestMetadata": "{}",
    "/projectIdentifier": "default",
}
"""What is said by saying nothing."""


def headers(top: Members, target: Target, drop: Drop) -> dict[str, str]:
    """Headers for the provider. Raises `Refused` for a guardrail that it does not have."""
    metadata = orjson.dumps(converse_read_options.metadata(top)).decode()
    wanted = {
        "/serviceTier": ("service-tier", converse_read_options.service_tier(top, drop)),
        "/performanceConfig": ("performanceconfig-latency", converse_read_options.latency(top, drop)),
        "/requestMetadata": ("request-metadata", metadata),
        "/projectIdentifier": ("projectidentifier", converse_read_options.project(top)),
    }
    found: dict[str, str] = {}
    for at, (name, value) in wanted.items():
        if value in {"", _USUAL[at]}:
            continue
        if target.flag == _INVOKE:
            found[_HEADER + name] = value
        else:
            drop(at)
    return found | guardrail(converse_read_options.guardrail(top, drop), target, drop)


def guardrail(config: Mapping[str, Any], target: Target, drop: Drop) -> dict[str, str]:
    """The headers of a `guardrailConfig`, which clients of Chat send too; {} is none. Raises `Refused` elsewhere."""
    if not config:
        return {}
    if target.flag != _INVOKE:
        raise converse_read_options.unguarded()
    if config.get("streamProcessingMode") not in (None, "sync"):
        drop("/guardrailConfig/streamProcessingMode")
    at = "/guardrailConfig"
    names = {"guardrailidentifier": "guardrailIdentifier", "guardrailversion": "guardrailVersion", "trace": "trace"}
    given = {name: text_at(config, member, at) for name, member in names.items()}
    given["trace"] = given["trace"].upper()
    return {_HEADER + name: value for name, value in given.items() if value}
