"""Changes to the parameters of a Messages request for Claude on Bedrock. Only the members concerned are rewritten.

- `shared/settings.py` decides about limits and sampling for all conversions. This module writes the decisions.
- A request for a model whose family is not known keeps its effort and its format.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Target
from gateway_plugins.shared import settings
from gateway_plugins.shared.lenient import mapping, whole_number
from gateway_plugins.shared.members_in_place import EditedMembers
from gateway_plugins.shared.output_format import JSON_HINT, schema_hint
from gateway_plugins.shared.settings import SAMPLING
from gateway_plugins.shared.thinking import EFFORTS, ThinkingPlan, nearest_effort

Changes = dict[str, bytes | None]

_THINKING_TYPES: Final = ("enabled", "adaptive")


def apply(edited: EditedMembers, target: Target, betas: list[str], drop: Drop) -> Changes:
    """Return the changed members, and append the beta that an effort needs to `betas`.

    Raises `Refused` for a sampling parameter that is no number.
    """
    changes = _sampling(edited, target, drop)
    if target.caps.family:
        _effort(edited, target, betas, drop)
        changes |= _format(edited, target, drop)
    if "max_tokens" not in edited.top:
        changes["max_tokens"] = orjson.dumps(_limit(edited, target))
    return changes


def _sampling(edited: EditedMembers, target: Target, drop: Drop) -> Changes:
    given = {name: edited[name] for name in SAMPLING if edited[name] is not None}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise invalid(f"{name}: must be a number, such as 0.7", name)
    thinks = mapping(edited["thinking"]).get("type") in _THINKING_TYPES or target.caps.reasoning == "always"
    supported = settings.supported_sampling(given, target.caps, drop, thinks=thinks)
    return {
        name: orjson.dumps(supported[name]) if name in supported else None
        for name, value in given.items()
        if supported.get(name) != value
    }


def _effort(edited: EditedMembers, target: Target, betas: list[str], drop: Drop) -> None:
    """Set `output_config.effort` to the nearest effort that the model has, and append the beta that efforts need.

    The effort is dropped for a model without efforts.
    """
    caps = target.caps
    config = mapping(edited["output_config"])
    effort = config.get("effort")
    if effort not in EFFORTS:
        return  # an unknown word is left to the provider
    if caps.reasoning == "adaptive" or caps.effort_beta:
        nearest = nearest_effort(effort, caps.efforts)
        if nearest != effort:
            drop("/output_config/effort")
            config["effort"] = nearest
            edited.change("output_config")
        if caps.effort_beta and caps.effort_beta not in betas:
            betas.append(caps.effort_beta)
        return
    drop("/output_config/effort")
    del config["effort"]
    edited.change("output_config")


def _format(edited: EditedMembers, target: Target, drop: Drop) -> Changes:
    """Write the client's JSON format as `output_config.format`.

    If the model takes no schemas, write the format into the system prompt.
    """
    config = mapping(edited["output_config"])
    older = edited["output_format"]
    schema_format = config.get("format") if older is None else older
    changes: Changes = {"output_format": None} if "output_format" in edited.top else {}
    if schema_format is None:
        return changes
    if target.caps.json_schema:
        if older is not None:
            edited.put("output_config", {**config, "format": older})
        return changes
    drop("/output_config/format" if older is None else "/output_format")
    if config.pop("format", None) is not None:
        edited.change("output_config")
    prompt = {"type": "text", "text": _schema_prompt(mapping(schema_format).get("schema"))}
    edited.put("system", [*system_blocks(edited["system"]), prompt])
    return changes


def _schema_prompt(schema: Any) -> str:
    return schema_hint(schema) if schema else JSON_HINT


def system_blocks(value: Any) -> list[Any]:
    """Return the `system` member as blocks."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}] if value.strip() else []
    return value if isinstance(value, list) else []


def min_limit(edited: EditedMembers) -> int:
    """Return the smallest allowed `max_tokens`, for a request to count tokens: more than the thinking budget."""
    return _budget(edited) + 1


def _budget(edited: EditedMembers) -> int:
    return max(0, whole_number(mapping(edited["thinking"]).get("budget_tokens")))


def _limit(edited: EditedMembers, target: Target) -> int:
    """Return `max_tokens` for a request that sets none: room for the thinking budget and for a usual answer."""
    limit = settings.output_limit(None, ThinkingPlan(tokens=_budget(edited)), target.caps, needed=True)
    assert limit is not None
    return limit
