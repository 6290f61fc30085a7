"""The text form of an explanation, for a terminal. The explanation itself is made in `explain.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

from gateway.call.explain.explain import Explanation, Offered, Reason, State
from gateway.call.explain.near_misses import Kind

_CAPABILITY: Final = re.compile(r'\.(?:app\."[^"]*"|grants)\[\d+\](?= |$)')
"""Pattern for the index of a capability in an origin, such as `.grants[0]`. An origin is a position in the
configuration or policy.

The text form of an explanation leaves the index out, because an origin also has the line and column.
"""
_REASONS: Final[Mapping[Reason, str]] = {
    "granted": "",
    "no_role": "no grant gives a role, and without one nothing works",
    "not_granted": "no grant covers it",
    "disabled": "its provider is disabled",
    "unknown": "no provider has it",
    "not_found": "it is unknown or not granted",
}
_STATES: Final[Mapping[State, str]] = {
    "allowed": "no grant names it",
    "no_role": "a role is missing",
    "not_granted": "not granted",
    "disabled": 'disabled by "disabled": true',
    "unknown": "has no such model",
}
_MISSES: Final[Mapping[Kind, str]] = {"other": "given to others"}


def explanation_text(explanation: Explanation) -> str:
    """Return the explanation as lines of text, without a newline at the end."""
    return "\n".join(_lines(explanation))


def _lines(explanation: Explanation) -> Iterator[str]:
    verdict = "may use" if explanation.allowed else "may not use"
    why = _REASONS[explanation.reason]
    yield f"{_who(explanation)} {verdict} {_quoted(explanation.model)}:{f' {why}' if why else ''}"
    yield f'  role "{explanation.role}"{_by(explanation.role_by)}' if explanation.role else "  no role"
    if explanation.alias:
        yield f"  an alias; which of its targets gets a call: {explanation.alias}"
    for offer in explanation.offers:
        yield from _offer(offer, by_name=bool(explanation.alias))
    if explanation.near:
        yield f"  did you mean {', '.join(map(_quoted, explanation.near))}?"
    for miss in explanation.near_misses:
        yield f"  {_MISSES.get(miss.kind, 'near miss')}, {_place(miss.origin)}: {miss.message}"
    if explanation.grant:
        yield 'To allow it, add to "grants":'
        yield f"  {explanation.grant},"
    yield from filter(None, (explanation.policy, explanation.note))


def _who(explanation: Explanation) -> str:
    """Return the caller's login, groups and tags. A tagged device has its tags as login, so they are not repeated."""
    more = [f"group {group}" for group in explanation.groups]
    more += [] if explanation.login == ",".join(explanation.tags) else [f"tag {tag}" for tag in explanation.tags]
    return explanation.login + (f" ({', '.join(more)})" if more else "")


def _offer(offer: Offered, *, by_name: bool) -> Iterator[str]:
    head = f"  {_quoted(offer.name)}" if by_name else f'  provider "{offer.provider}"'
    if not offer.by:
        yield f"{head}: {_STATES[offer.state]}"
    for pattern in offer.by:
        lacking = "" if offer.state == "allowed" else f"; {_STATES[offer.state]}"
        yield f"{head}: models {_quoted(pattern.models)}{_by((pattern.origin,))}{lacking}"
    if offer.headers:
        yield f"    adds {', '.join(offer.headers)}"
    if offer.auto_cache:
        yield f"    caches prompts for {offer.auto_cache}"
    for chain in offer.quotas:
        yield f"    charged to {', then '.join(map(_quoted, chain))}"


def _by(origins: tuple[str, ...]) -> str:
    known = [_place(origin) for origin in origins if origin]
    return f" by {' and '.join(known)}" if known else ""


def _place(origin: str) -> str:
    return _CAPABILITY.sub("", origin, count=1) or "a grant"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
