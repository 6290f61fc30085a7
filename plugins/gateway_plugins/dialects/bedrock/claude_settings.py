"""What the parameters of a Messages request mean for a Claude on Bedrock, changed in place and nothing else.

What is asked for is decided in `shared/settings.py`, for every conversion alike; here the decision is written into the
members that the client sent. A model of which nothing is known keeps what it was sent. Source: bedrock.md 3.1 and 3.2.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Target
from gateway_plugins.shared import settings
from gateway_plugins.shared.lenient import mapping, whole_number
from gateway_plugins.shared.members_in_place import EditedMembers
from gateway_plugins.shared.settings import SAMPLING, ThinkingPlan

Changes = dict[str, bytes | None]

_THINKS: Final = ("enabled", "adaptive")


def apply(parts: EditedMembers, target: Target, betas: list[str], drop: Drop) -> Changes:
    """The members that change; `betas` gets the one that an effort needs. Raises `Refused` for a wrong type."""
    changes = _sampling(parts, target, drop)
    if target.caps.family:
        _effort(parts, target, betas, drop)
        changes |= _format(parts, target, drop)
    if "max_tokens" not in parts.top:
        changes["max_tokens"] = orjson.dumps(_limit(parts, target))
    return changes


def _sampling(parts: EditedMembers, target: Target, drop: Drop) -> Changes:
    given = {name: parts[name] for name in SAMPLING if parts[name] is not None}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise invalid(f"{name}: must be a number, such as 0.7", name)
    thinks = mapping(parts["thinking"]).get("type") in _THINKS or target.caps.reasoning == "always"
    kept = settings.supported_sampling(given, target.caps, drop, thinks=thinks)
    return {
        name: orjson.dumps(kept[name]) if name in kept else None
        for name, value in given.items()
        if kept.get(name) != value
    }


def _effort(parts: EditedMembers, target: Target, betas: list[str], drop: Drop) -> None:
    """`output_config.effort`: the nearest that the model has, with its beta where it needs one; dropped elsewhere."""
    caps = target.caps
    config = mapping(parts["output_config"])
    effort = config.get("effort")
    if effort not in settings.EFFORTS:
        return  # a word that is not known here is the provider's to judge
    if caps.reasoning == "adaptive" or caps.effort_beta:
        nearest = settings.nearest_effort(effort, caps.efforts)
        if nearest != effort:
            drop("/output_config/effort")
            config["effort"] = nearest
            parts.change("output_config")
        if caps.effort_beta and caps.effort_beta not in betas:
            betas.append(caps.effort_beta)
        return
    drop("/output_config/effort")
    del config["effort"]
    parts.change("output_config")


def _format(parts: EditedMembers, target: Target, drop: Drop) -> Changes:
    """Structured output as `output_config.format`, the form that Bedrock relays; elsewhere the system prompt asks."""
    config = mapping(parts["output_config"])
    older = parts["output_format"]
    wanted = config.get("format") if older is None else older
    changes: Changes = {"output_format": None} if "output_format" in parts.top else {}
    if wanted is None:
        return changes
    if target.caps.json_schema:
        if older is not None:
            parts.put("output_config", {**config, "format": older})
        return changes
    drop("/output_config/format" if older is None else "/output_format")
    if config.pop("format", None) is not None:
        parts.change("output_config")
    parts.put(
        "system", [*system_blocks(parts["system"]), {"type": "text", "text": _asked(mapping(wanted).get("schema"))}]
    )
    return changes


def _asked(schema: Any) -> str:
    says = settings.JSON_HINT
    return f"{says} It must match this JSON schema: {orjson.dumps(schema).decode()}" if schema else says


def system_blocks(value: Any) -> list[Any]:
    """The `system` member as blocks."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}] if value.strip() else []
    return value if isinstance(value, list) else []


def least_limit(parts: EditedMembers) -> int:
    """The limit of a request whose tokens are only counted: one is demanded, and it must leave room beside a budget."""
    return _budget(parts) + 1


def _budget(parts: EditedMembers) -> int:
    return max(0, whole_number(mapping(parts["thinking"]).get("budget_tokens")))


def _limit(parts: EditedMembers, target: Target) -> int:
    """What is demanded and the client left out: room for the model's usual answer beside its thinking."""
    limit = settings.output_limit(None, ThinkingPlan(tokens=_budget(parts)), target.caps, demanded=True)
    assert limit is not None
    return limit
