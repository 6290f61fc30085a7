"""Handles InvokeModel's header options, such as the guardrail, in requests that the gateway translates.

Source: botocore's service model of bedrock-runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Headers, Members
from gateway_plugins.dialects.bedrock.request_metadata import METADATA, read_metadata

_PROJECT: Final = "x-amzn-bedrock-projectidentifier"
"""InvokeModel's header for the project. In Converse, the project is in the field `projectIdentifier`."""
_GUARDRAIL: Final = "x-amzn-bedrock-guardrailidentifier"
_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    # header of InvokeModel: values that request nothing, and are therefore not reported
    _GUARDRAIL: (),
    "x-amzn-bedrock-guardrailversion": (),
    "x-amzn-bedrock-trace": ("DISABLED",),
    "x-amzn-bedrock-performanceconfig-latency": ("standard",),
    "x-amzn-bedrock-service-tier": ("default",),
    METADATA: (),
    _PROJECT: ("default",),
}
_TRACES: Final = {"ENABLED": "enabled", "ENABLED_FULL": "enabled_full", "DISABLED": "disabled"}


def drop_headers(client: Headers, upstream: str, drop: Drop) -> None:
    """Report as dropped each client header that sets an option of InvokeModel.

    `client` has the client's headers, and `upstream` names the provider's API format. For Converse, nothing is
    reported, because Converse has a field for each of these options (`as_members`). Raises `Refused` if the client
    names a guardrail, because a guardrail must not be dropped.
    """
    if upstream == "bedrock_converse":
        return
    if client.get(_GUARDRAIL):
        raise invalid(f"{_GUARDRAIL}: guardrails are applied by Bedrock only, and this model is not there", _GUARDRAIL)
    for name, neutral in _HEADERS.items():
        if client.get(name, "") not in ("", *neutral):
            drop(f"/{name}")


def as_members(headers: Mapping[str, str], top: Members) -> tuple[dict[str, str], dict[str, bytes | None]]:
    """Convert InvokeModel's header options to fields of a Converse body (hermes#52179).

    Returns a pair: all other headers, and the fields to add to the body `top`. A field that `top` already has is not
    replaced.
    """
    rest = {name: value for name, value in headers.items() if name not in _HEADERS}
    given = {name: headers[name] for name in _HEADERS if headers.get(name)}
    members: dict[str, Any] = {}
    if _GUARDRAIL in given:
        guardrail = {
            "guardrailIdentifier": given[_GUARDRAIL],
            "guardrailVersion": given.get("x-amzn-bedrock-guardrailversion"),
            "trace": _TRACES.get(given.get("x-amzn-bedrock-trace", "")),
        }
        members["guardrailConfig"] = {name: value for name, value in guardrail.items() if value}
    if latency := given.get("x-amzn-bedrock-performanceconfig-latency"):
        members["performanceConfig"] = {"latency": latency}
    if tier := given.get("x-amzn-bedrock-service-tier"):
        members["serviceTier"] = {"type": tier}
    if metadata := given.get(METADATA):
        members["requestMetadata"] = read_metadata(metadata)
    if project := given.get(_PROJECT):
        members["projectIdentifier"] = project
    return rest, {name: orjson.dumps(value) for name, value in members.items() if name not in top}
