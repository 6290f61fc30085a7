"""Selects the betas that are sent to a provider: the betas that the client names and the provider accepts.

A beta is a feature of Anthropic's API that must be requested by name.

- A client of the Messages API names betas in the header `anthropic-beta`. A client of Bedrock can also name them in the
  field `anthropic_beta` of the body. Claude Code names different betas in the header and in the body.
- An envelope is the API that carries a Messages request to the model: Anthropic's API, InvokeModel, Converse, or
  Bedrock's Messages API ("mantle"). Each envelope accepts certain betas and answers 400 to others. The file
  `betas.json` lists the accepted betas. A provider's options (`BetaOptions`) take precedence over this list.
- `ClientRequest.without` has the betas that the provider has already refused for the model. These betas are left out.
- The provider's plugin decides whether the betas are sent in the header or in the body. `beta_members.py` keeps each
  beta together with its fields. `beta_refusals.py` reads a provider's refusal.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Annotated, Any, Final

import msgspec
import orjson
from pydantic import Field

from gateway.contract.errors import invalid
from gateway.contract.flag import ClientRequest, Drop, Headers, Members, Settings, Target

HEADER: Final = "anthropic-beta"
MEMBER: Final = "anthropic_beta"
INTERLEAVED: Final = "interleaved-thinking-2025-05-14"
"""Beta for thinking between tool calls, in a request with a thinking budget."""


_Names = Annotated[tuple[str, ...], Field(strict=False)]


class BetaOptions(Settings):
    """Rules for the betas (optional features of Anthropic's API) that clients name: which are sent, which are left out.

    These rules take precedence over the gateway's own list of betas.
    """

    allow_betas: _Names = Field(
        default=(), description='Betas that are sent as they are, by name or pattern: ["context-1m-*"].'
    )
    drop_betas: _Names = Field(
        default=(), description='Betas that are left out and reported as dropped: ["interleaved-thinking-*"].'
    )


_NO_CORRECTIONS: Final = BetaOptions()


class _Envelope(msgspec.Struct, frozen=True):
    take: tuple[str, ...]
    """Names or globs of the betas that this API accepts."""
    rewrite: Mapping[str, Sequence[str]]


class Selection(msgspec.Struct, frozen=True):
    """The betas of a request, divided into those to send and those to leave out."""

    sent: list[str]
    """Betas to send, under the names that the provider's API has for them."""
    removed: list[str]
    """Betas to leave out."""


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


def features() -> list[dict[str, Any]]:
    """Return the rules in `betas.json` that name the fields of each beta, as decoded JSON."""
    rules: list[dict[str, Any]] = _data()["features"]["rules"]
    return rules


def refusal_words() -> list[str]:
    """Return words that occur in the error message if a provider refuses a beta."""
    words: list[str] = _data()["refusals"]["words"]
    return words


def is_listed(name: str, envelope: str) -> bool:
    """Return whether `betas.json` lists the beta as accepted by the envelope (the provider's API)."""
    rules = _data()["envelopes"][envelope]
    return name in (*rules["take"], *rules.get("body", ()))


def able(target: Target, without: Collection[str]) -> Target:
    """Return the target, with `Caps.effort_beta` set to "" if the provider has refused this beta.

    `without` are the betas that the provider has refused.
    """
    caps = target.caps
    return replace(target, caps=replace(caps, effort_beta="")) if caps.effort_beta in without else target


def body_betas(top: Members) -> list[str]:
    """Return the betas that a body names. Raises `Refused` if `anthropic_beta` is not a list of strings."""
    names = top.small(MEMBER)
    if names is None:
        return []
    if not isinstance(names, list) or not all(isinstance(beta, str) for beta in names):
        raise invalid(f"{MEMBER}: is a list of names of betas, as strings", MEMBER)
    return list(dict.fromkeys(names))


def header_betas(headers: Headers) -> list[str]:
    """Return the betas in the header: a comma-separated list or a JSON array. The header may be repeated."""
    names = (part.strip(' "[]') for part in headers.get(HEADER, "").split(","))
    return list(dict.fromkeys(name for name in names if name))


def request_betas(request: ClientRequest) -> list[str]:
    """Return the betas of the body, then the betas of the header. Raises `Refused` for malformed betas in the body."""
    return list(dict.fromkeys([*body_betas(request.top), *header_betas(request.headers)]))


def select_betas(
    names: Iterable[str], envelope: str, options: Settings, drop: Drop, *, without: Collection[str] = ()
) -> list[str]:
    """Return the betas that the provider's API accepts, under the names that this API has for them.

    All other betas are reported as dropped.

    - `envelope` is the name of the API in `betas.json`.
    - `options` override `betas.json` if they are `BetaOptions`.
    - `without` are betas that the provider has already refused.
    """
    return selection(names, envelope, options, drop, without=without).sent


def selection(
    names: Iterable[str], envelope: str, options: Settings, drop: Drop, *, without: Collection[str] = ()
) -> Selection:
    """Return the betas to send, as `select_betas` does, and the betas to leave out."""
    rules, own = _envelope(envelope), _corrections(options)
    sent: dict[str, None] = {}
    removed: dict[str, None] = {}
    for name in names:
        made: Sequence[str] = ()
        if _fits(name, own.drop_betas):
            pass
        elif _fits(name, own.allow_betas):
            made = (name,)
        elif name in rules.rewrite:
            made = rules.rewrite[name]
        elif _fits(name, rules.take):
            made = (name,)
        kept = [each for each in made if each not in without and not _fits(each, own.drop_betas)]
        sent |= dict.fromkeys(kept)
        removed |= dict.fromkeys(each for each in made or (name,) if each not in kept)
        if not kept:
            drop(_pointer(name))
    return Selection(list(sent), list(removed))


def remove_dropped(names: Iterable[str], options: Settings, drop: Drop, *, without: Collection[str] = ()) -> list[str]:
    """Return the betas that the configuration does not drop and that the provider has not refused (`without`).

    The function does not check whether the provider's API accepts the returned betas.
    """
    selected, own = [], _corrections(options)
    for name in names:
        if name in without or _fits(name, own.drop_betas):
            drop(_pointer(name))
        else:
            selected.append(name)
    return selected


def drops_any(options: Settings, without: Collection[str] = ()) -> bool:
    """Return whether the configuration drops any beta, or the provider has refused any (`without`)."""
    return bool(without or _corrections(options).drop_betas)


def _corrections(options: Settings) -> BetaOptions:
    """Return `options` if they are `BetaOptions`, and otherwise empty `BetaOptions`."""
    return options if isinstance(options, BetaOptions) else _NO_CORRECTIONS


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _pointer(name: str) -> str:
    return f"/{HEADER}/{name}"
