"""Anthropic's betas (names of features under test): those that a client requests, and those that a provider takes.

- A client of the Messages API names betas in the header `anthropic-beta`. A client of Bedrock can also name them in the
  member `anthropic_beta`. Claude Code names different betas in the two.
- An envelope is the form in which a provider takes a Messages request: Anthropic's API, InvokeModel, Converse, or
  Bedrock's Messages API ("mantle"). Each envelope takes certain betas and answers 400 to others. The lists
  change over time, so they are data in `betas.json`. A provider's `anthropic_betas` in the configuration overrides
  the data.
- The flag of a provider decides whether the betas are sent in the header or in the body.
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
"""Name of the provider's option for betas, an object with `envelope`, `allow` and `drop`."""
HEADER: Final = "anthropic-beta"
MEMBER: Final = "anthropic_beta"
INTERLEAVED: Final = "interleaved-thinking-2025-05-14"
"""Beta for thinking between tool calls of a request with a thinking budget."""


@dataclass(frozen=True, slots=True)
class _Envelope:
    take: tuple[str, ...]
    """Names of the betas that the envelope takes; globs are allowed."""
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
    """Return the betas that a body names. Raises `Refused` if `anthropic_beta` is not a list of strings."""
    names = member(top, MEMBER)
    if names is None:
        return []
    if not isinstance(names, list) or not all(isinstance(beta, str) for beta in names):
        raise invalid(f"{MEMBER}: is a list of names of betas, as strings", MEMBER)
    return list(dict.fromkeys(names))


def header_betas(headers: Headers) -> list[str]:
    """Return the betas that the header names, separated by commas or as a JSON array. The header may be repeated."""
    names = (part.strip(' "[]') for part in headers.get(HEADER, "").split(","))
    return list(dict.fromkeys(name for name in names if name))


def request_betas(request: ClientRequest) -> list[str]:
    """Return the betas of the body, then those of the header. Raises `Refused` if those of the body are malformed."""
    return list(dict.fromkeys([*body_betas(request.top), *header_betas(request.headers)]))


def select_betas(names: Iterable[str], envelope: str, options: Mapping[str, Any], drop: Drop) -> list[str]:
    """Return the betas that the envelope takes, under the envelope's names. Other betas are reported as dropped.

    `envelope` is a key of `envelopes` in `betas.json`. `options` are the options of the provider. The lists `drop` and
    `allow` in the option `anthropic_betas` override the data.
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
    """Return whether the provider's options drop any beta. If they drop none, the betas in a body need not be read."""
    return bool(mapping(options.get(OPTION)).get("drop"))


def remove_dropped(names: Iterable[str], options: Mapping[str, Any], drop: Drop) -> list[str]:
    """Return the betas that the configuration does not drop. Whether the envelope takes the betas is not checked."""
    selected = []
    for name in names:
        if _fits(name, mapping(options.get(OPTION)).get("drop")):
            drop(_pointer(name))
        else:
            selected.append(name)
    return selected


def beta_for(feature: str) -> str:
    """Return the beta that a feature (a member or value of a request) needs on Bedrock; "" if it needs none."""
    return str(_data()["features"].get(feature, ""))


def is_refusal(problem: Problem) -> bool:
    """Return whether the words of the provider's error message show that it refused a request because of a beta."""
    message = problem.message.lower()
    return problem.code == errors.INVALID_REQUEST and any(word in message for word in _data()["refusals"]["words"])


def retry_without_betas(request: ClientRequest, drop: Drop) -> ClientRequest | None:
    """Return the request without betas and without the tools' member `eager_input_streaming`, which needs a beta.

    What is removed is reported as dropped. Return None if there is nothing to remove.
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
