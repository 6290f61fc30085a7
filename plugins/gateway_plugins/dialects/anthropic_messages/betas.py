"""Anthropic's betas: where a client names them, and which of them an envelope takes.

A Messages client names them in the `anthropic-beta` header, clients of Bedrock also in the member `anthropic_beta`, and
Claude Code different ones in the two (bedrock.md 0.7). Which ones are taken drifts and is refused with a 400, so it is
data, `betas.json`, and a provider's `anthropic_betas` in the configuration stands above it. In which place a
beta leaves is the envelope's own.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, Final

import orjson

from gateway.contract import errors
from gateway.contract.errors import Problem, invalid
from gateway.contract.flag import ClientRequest, Drop, Headers, Members
from gateway_plugins.shared.fields import member
from gateway_plugins.shared.lenient import mapping

OPTION: Final = "anthropic_betas"
"""Among a target's options: `envelope`, `allow` and `drop`, as the configuration has them."""
HEADER: Final = "anthropic-beta"
MEMBER: Final = "anthropic_beta"


@dataclass(frozen=True, slots=True)
class _Envelope:
    take: tuple[str, ...]
    """Names, or globs of them."""
    rewrite: Mapping[str, Sequence[str]]


@cache
def _data() -> dict[str, Any]:
    found = pkgutil.get_data(__package__, "betas.json")
    assert found is not None
    data: dict[str, Any] = orjson.loads(found)
    return data


@cache
def _envelope(name: str) -> _Envelope:
    found = _data()["envelopes"][name]
    return _Envelope(tuple(found["take"]), found["rewrite"])


def body_betas(top: Members) -> list[str]:
    """Raises `Refused` for what is no list of names."""
    given = member(top, MEMBER)
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(beta, str) for beta in given):
        raise invalid(f"{MEMBER}: is a list of names of betas, as strings", MEMBER)
    return list(dict.fromkeys(given))


def header_betas(headers: Headers) -> list[str]:
    """A comma between names, a JSON array, or the header repeated: clients send all three."""
    names = (part.strip(' "[]') for part in headers.get(HEADER, "").split(","))
    return list(dict.fromkeys(name for name in names if name))


def request_betas(ask: ClientRequest) -> list[str]:
    """The body's, then the header's. Raises as `body_betas` does."""
    return list(dict.fromkeys([*body_betas(ask.top), *header_betas(ask.headers)]))


def select_betas(names: Iterable[str], envelope: str, options: Mapping[str, Any], drop: Drop) -> list[str]:
    """Those of the names that the envelope takes, by the names that it has for them; others are dropped aloud.

    `envelope` is one of the data's; `options` are the target's. What the configuration drops goes, what it allows stays
    as it is, and the data decide about the rest.
    """
    rules, own = _envelope(envelope), mapping(options.get(OPTION))
    found: dict[str, None] = {}
    for name in names:
        if _fits(name, own.get("drop")):
            drop(_pointer(name))
        elif _fits(name, own.get("allow")):
            found[name] = None
        elif name in rules.rewrite:
            found |= dict.fromkeys(rules.rewrite[name])
        elif _fits(name, rules.take):
            found[name] = None
        else:
            drop(_pointer(name))
    return list(found)


def drops_any(options: Mapping[str, Any]) -> bool:
    """The configuration drops some, so bodies that nothing else is changed in must be looked at."""
    return bool(mapping(options.get(OPTION)).get("drop"))


def remove_dropped(names: Iterable[str], options: Mapping[str, Any], drop: Drop) -> list[str]:
    """Those of the names that the configuration does not drop: of a body that goes to the envelope it is made for."""
    found = []
    for name in names:
        if _fits(name, mapping(options.get(OPTION)).get("drop")):
            drop(_pointer(name))
        else:
            found.append(name)
    return found


def beta_for(feature: str) -> str:
    """The beta that a member or a value of the request needs on Bedrock; "" for none."""
    return str(_data()["features"].get(feature, ""))


def is_refusal(problem: Problem) -> bool:
    """The provider does not know a beta, in whatever words it says so."""
    said = problem.message.lower()
    return problem.code == errors.INVALID_REQUEST and any(word in said for word in _data()["refusals"]["words"])


def retry_without_betas(ask: ClientRequest, drop: Drop) -> ClientRequest | None:
    """The ask without any beta, dropped aloud, and without the members of tools that bring one; None if it has none."""
    names = request_betas(ask)
    changes: dict[str, bytes | None] = {MEMBER: None} if MEMBER in ask.top else {}
    tools, changed = _not_eager(ask.top, drop)
    if changed:
        changes["tools"] = orjson.dumps(tools)
    if not names and not changes:
        return None
    for name in names:
        drop(_pointer(name))
    headers = {name: value for name, value in ask.headers.items() if name != HEADER}
    return replace(ask, headers=headers, top=Members(ask.top.spliced(changes)) if changes else ask.top)


def _not_eager(top: Members, drop: Drop) -> tuple[Any, bool]:
    if b"eager_input_streaming" not in top.get("tools", b""):
        return None, False
    tools, changed = member(top, "tools"), False
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        if isinstance(tool, dict) and tool.pop("eager_input_streaming", None):
            drop(f"/tools/{index}/eager_input_streaming")
            changed = True
    return tools, changed


def _fits(name: str, patterns: Any) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns or ())


def _pointer(name: str) -> str:
    return f"/{HEADER}/{name}"
