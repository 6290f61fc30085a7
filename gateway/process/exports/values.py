"""The exported form of a call: an object as in Aperture's exports (`ver` 2), with the gateway's own record added.

As in Aperture's exports, empty members are left out. The names of members are from Aperture's documentation "Export
usage data to S3", or were seen in exported files. Differences:

- `id` is the number of the call in the store, which may be used again after a deletion. The call's id is `capture_id`.
- `api_type` is the compatibility flag (API format) of the client, such as `openai_chat`.
- `call` is the record in the form of the gateway's own API, with all of its fields.
- `path` is known only for direct calls, which are forwarded to a provider unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.contract.flag import Usage
from gateway.contract.record import Record, dollars
from gateway.store.base import rfc3339
from gateway.store.captured import CapturedBodies, CapturedBody

VERSION: Final = 2
"""The version of the exported form. It is the value of the member `ver`."""
_TAG: Final = "tag:"
"""Prefix of each tag of a node (Tailscale's tags, such as `tag:server`). A tagged node has no user. In records, its
login is the list of its tags, separated by commas.
"""


def exported(number: int, record: Record, bodies: CapturedBodies | None) -> dict[str, Any]:
    """Return a call in its exported form. `bodies` are exported too, if they are not None."""
    cost = _cost(record)
    value: dict[str, Any] = {
        "id": number,
        "ver": VERSION,
        "timestamp": rfc3339(record.at),
        "identity": _identity(record),
        "model": _model(record),
        "api_type": record.api,
        "usage": _usage(record.usage, record.extra),
        **({} if cost is None else {"estimated_cost": cost}),
        "duration_ms": round(record.duration_ms),
        "capture_id": record.id,
        "session_id": record.session_id,
        "path": _path(record),
        "status_code": record.status,
        "call": record.as_dict(),
    }
    if bodies is not None:
        value["capture"] = _capture(record, bodies, cost)
    return value


def _model(record: Record) -> str:
    return f"{record.provider}/{record.model}" if record.provider else record.model


def _path(record: Record) -> str:
    return "" if record.direct is None else record.direct.path


def _tags(record: Record) -> list[str]:
    return record.identity.split(",") if record.identity.startswith(_TAG) else []


def _identity(record: Record) -> dict[str, Any]:
    tags = _tags(record)
    named = {"login_name": record.identity, "stable_node_id": record.node}
    return {**named, "tags": tags} if tags else named


def _usage(usage: Usage, extra: Mapping[str, int]) -> dict[str, int]:
    counts = {
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cached_tokens": usage.cache_read,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "reasoning_tokens": usage.reasoning,
        "web_search_count": extra.get("web_search", 0),
    }
    return {name: count for name, count in counts.items() if count}


def _cost(record: Record) -> dict[str, Any] | None:
    if record.cost is None:
        return None
    usage = _usage(record.usage, record.extra)
    return {"dollars": dollars(record.cost), "cost_basis": record.cost_basis, "usage": usage}


def _capture(record: Record, bodies: CapturedBodies, cost: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "id": record.id,
        "model": _model(record),
        "startTime": rfc3339(record.at),
        "loginName": record.identity,
        "stableNodeId": record.node,
        "tags": _tags(record),
        "statusCode": record.status,
        "path": _path(record),
        "toolUseData": [{"name": name} for name in record.tools],
        **_body("request", bodies.request),
        **_body("response", bodies.reply),
        "sessionId": record.session_id,
        **({} if cost is None else {"estimated_cost": cost}),
    }


def _body(which: str, body: CapturedBody) -> dict[str, Any]:
    """Return the fields of a request or a response: its headers, and its body. The body is a text, or bytes if it is
    not UTF-8.
    """
    shown = body.as_dict()
    is_text = shown["encoding"] == "utf-8"
    return {
        f"{which}Headers": {name: [value] for name, value in body.headers.items()},
        f"{which}Body": shown["body"] if is_text else "",
        **({} if is_text else {f"raw{which.capitalize()}Body": body.body}),
        **({f"{which}Cut": True} if body.cut else {}),
    }
