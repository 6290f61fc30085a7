"""Anthropic's betas: the names in a client's request, and those that an envelope takes.

- A Messages client names betas in the `anthropic-beta` header, a client of Bedrock also in the member `anthropic_beta`.
  Claude Code names different ones in the two (bedrock.md 0.7).
- A beta that an envelope does not take is refused with a 400, and the betas that it takes change over time. So they are
  data, `betas.json`, and a provider's `anthropic_betas` in the configuration overrides the data.
- The envelope itself decides whether a beta leaves in the header or in the body.
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
"""Name of the target's option with `envelope`, `allow` and `drop`, as the configuration has them."""
HEADER: Final = "anthropic-beta"
MEMBER: Final = "anthropic_beta"


@dataclass(frozen=True, slots=True)
class _Envelope:
    take: tuple[str, ...]
    """Names of betas, or globs of names."""
    rewrite: Mapping[str, Sequence[str]]


@cache
def _data() -> dict[str, Any]:
    text = pkgutil.get_data(__package__, "betas.json")
    assert text is not None
    data: dict[str, Any] = orjson.loads(text)
    return data


@cache
def _envelope(name: str) -> _Envelope:
    rules = _data()["envelopes"][name]
    return _Envelope(tuple(rules["take"]), rules["rewrite"])


def body_betas(top: Members) -> list[str]:
    """Return the betas of a body. Raises `Refused` for a value that is no list of names."""
    names = member(top, MEMBER)
    if names is None:
        return []
    if not isinstance(names, list) or not all(isinstance(beta, str) for beta in names):
        raise invalid(f"{MEMBER}: is a list of names of betas, as strings", MEMBER)
    return list(dict.fromkeys(names))


def header_betas(headers: Headers) -> list[str]:
    """Return the betas of the header: names with commas, a JSON array, or the header repeated."""
    names = (part.strip(' "[]') for part in headers.get(HEADER, "").split(","))
    return list(dict.fromkeys(name for name in names if name))


def request_betas(request: ClientRequest) -> list[str]:
    """Return the betas of the body, then those of the header. Raises as `body_betas` does."""
    return list(dict.fromkeys([*body_betas(request.top), *header_betas(request.headers)]))


def select_betas(names: Iterable[str], envelope: str, options: Mapping[str, Any], drop: Drop) -> list[str]:
    """Return the betas that the envelope takes, by its own names for them; others are reported as dropped.

    `envelope` is a key of the data; `options` are the target's. The configuration decides on the betas that it drops or
    allows, the data on the others.
    """
    rules, own = _envelope(envelope), mapping(options.get(OPTION))
    selected: dict[str, None] = {}
    for name in names:
        if _fits(name, own.get("drop")):
            drop(_pointer(name))
        elif _fits(name, own.get("allow")):
            selected[name] = None
        elif name in rules.rewrite:
            selected |= dict.fromkeys(rules.rewrite[name])
        elif _fits(name, rules.take):
            selected[name] = None
        else:
            drop(_pointer(name))
    return list(selected)


def drops_any(options: Mapping[str, Any]) -> bool:
    """Return whether the configuration drops betas, so that a body that is passed on unchanged must be searched."""
    return bool(mapping(options.get(OPTION)).get("drop"))


def remove_dropped(names: Iterable[str], options: Mapping[str, Any], drop: Drop) -> list[str]:
    """Return the betas that the configuration does not drop, for a body that is already made for its envelope."""
    selected = []
    for name in names:
        if _fits(name, mapping(options.get(OPTION)).get("drop")):
            drop(_pointer(name))
        else:
            selected.append(name)
    return selected


def beta_for(feature: str) -> str:
    """Return the beta that a member or a value of the request needs on Bedrock, or ""."""
    return str(_data()["features"].get(feature, ""))


def is_refusal(problem: Problem) -> bool:
    """Return whether the provider refuses a beta, in any of its words for that."""
    message = problem.message.lower()
    return problem.code == errors.INVALID_REQUEST and any(word in message for word in _data()["refusals"]["words"])


def retry_without_betas(request: ClientRequest, drop: Drop) -> ClientRequest | None:
    """Return the request without betas and without the members of tools that need one; None if it has neither.

    The betas and the members are reported as dropped.
    """
    names = request_betas(request)
    changes: dict[str, bytes | None] = {MEMBER: None} if MEMBER in request.top else {}
    tools, changed = _not_eager(request.top, drop)
    if changed:
        changes["tools"] = orjson.dumps(tools)
    if not names and not changes:
        return None
    for name in names:
        drop(_pointer(name))
    headers = {name: value for name, value in request.headers.items() if name != HEADER}
    return replace(request, headers=headers, top=Members(request.top.spliced(changes)) if changes else request.top)


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
