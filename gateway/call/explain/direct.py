"""Explanations of why a caller may or may not send a request below `/direct`, with the grants that decide it.

The functions that decide about real requests also make the decision here (`direct_path`, `Access.allows_direct`). Only
administrators learn which providers exist, and where a grant is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from gateway.access.grants import Access
from gateway.access.identity.caller import Identity
from gateway.call.direct.paths import ROOT, DirectPath, direct_path
from gateway.call.explain.explain import ASK_ADMIN, place_of, policy_note, role_origins, source_of
from gateway.call.runtime import Runtime
from gateway.config.model import DirectPattern, Role
from gateway.config.sections.direct_paths import direct_pattern
from gateway.config.sections.grant_capabilities import CAPABILITIES
from gateway.contract.errors import Refused
from gateway.contract.globs import matches
from gateway.contract.route_paths import METHODS

Reason = Literal["granted", "no_role", "not_granted", "not_clear", "unknown"]
"""Reasons for the decision about a direct request. `not_clear` means that the path is ambiguous, and is refused to
everybody. `unknown` means that the provider does not exist or is disabled.
"""


class NoSuchRequest(ValueError):
    """The error for a text that is no method and path. The message says what is wrong."""


@dataclass(frozen=True, slots=True)
class GrantedPaths:
    """A pattern that allows the request, as a capability states it.

    `origin` is the position of this capability in the configuration or in the tailnet policy.
    """

    pattern: str
    origin: str


@dataclass(frozen=True, slots=True)
class DirectExplanation:
    """The explanation of why a caller may or may not send a direct request. In JSON, it is an object with these
    fields.
    """

    allowed: bool
    reason: Reason
    login: str
    groups: tuple[str, ...]
    tags: tuple[str, ...]
    request: str
    """The method and the path."""
    role: Role | None
    role_by: tuple[str, ...]
    """The positions of the capabilities that give the caller the role, in the configuration or the tailnet policy."""
    by: tuple[GrantedPaths, ...]
    """The patterns of the caller's grants that allow the request. May be empty for an admin, who needs none."""
    fault: str = ""
    """The reason why the path is not clear (ambiguous), or why its provider cannot be called."""
    grant: str = ""
    """A grant that would allow the request, as JSON. It is "" if nothing is missing.

    The grant is for this path alone. If no pattern matches this path and no other, the grant is for all paths of the
    provider.
    """
    policy: str = ""
    """A note on how to use `grant` in the tailnet policy. It is "" if there is no such note."""
    note: str = ""


def explain_direct(runtime: Runtime, identity: Identity, request: str, *, note: str = "") -> DirectExplanation:
    """Return the full explanation of a direct request, for administrators only. `note` becomes the explanation's field
    `note`.

    Raises `NoSuchRequest` if `request` is not a method followed by a path.
    """
    method, raw = method_and_path(request)
    access = runtime.grants.access(identity)
    made = DirectExplanation(
        allowed=False,
        reason="not_clear",
        login=identity.login,
        groups=identity.groups,
        tags=identity.tags,
        request=f"{method} {raw}",
        role=access.role,
        role_by=role_origins(access),
        by=(),
        note=note,
    )
    try:
        path = direct_path(raw)
    except Refused as refused:
        return replace(made, fault=refused.problem.message)
    made = replace(made, by=tuple(_granted(access, method, path.meanings)))
    provider = runtime.config.providers.get(path.provider)
    if provider is None or provider.disabled:
        return replace(made, reason="unknown", fault=f'provider "{path.provider}" does not exist or is disabled')
    if access.allows_direct(method, *path.meanings):
        return replace(made, allowed=True, reason="granted")
    return replace(
        made,
        reason="no_role" if access.role is None else "not_granted",
        grant=_grant(identity, access.role is None, method, path),
        policy=policy_note(identity),
    )


def own_direct_view(runtime: Runtime, identity: Identity, request: str) -> DirectExplanation:
    """Return the explanation of a direct request as callers may see it who are not administrators.

    Raises `NoSuchRequest` if `request` is not a method followed by a path.
    """
    made = explain_direct(runtime, identity, request)
    places = tuple(replace(granted, origin=place_of(granted.origin)) for granted in made.by)
    made = replace(made, by=places, role_by=tuple(map(place_of, made.role_by)), grant="", policy="")
    if made.reason == "unknown":
        # a caller with a fitting pattern may call the path, and then learns the same from the reply
        made = made if made.by else replace(made, reason="not_granted" if made.role else "no_role", fault="")
    return made if made.allowed else replace(made, note=ASK_ADMIN)


def method_and_path(request: str) -> tuple[str, str]:
    """Return the method and the path that `request` names, without the query of the path.

    Raises `NoSuchRequest` if `request` is not a method followed by a path.
    """
    method, _, path = request.strip().partition(" ")
    method, path = method.upper(), path.strip().partition("?")[0]
    if method not in METHODS or not path.startswith(ROOT):
        raise NoSuchRequest(
            f'write a method and a path, such as "GET {ROOT}acme/v1/files"; methods: {", ".join(METHODS)}'
        )
    return method, path


def _granted(access: Access, method: str, meanings: Sequence[str]) -> Iterator[GrantedPaths]:
    for capability in access.capabilities:
        for pattern in capability.direct_paths:
            if method in pattern.methods and all(matches(pattern.path, meaning) for meaning in meanings):
                yield GrantedPaths(_written(pattern), capability.origin)


def _written(pattern: DirectPattern) -> str:
    if pattern.methods == frozenset(METHODS):
        return pattern.path
    return f"{','.join(method for method in METHODS if method in pattern.methods)} {pattern.path}"


def _grant(identity: Identity, role: bool, method: str, path: DirectPath) -> str:
    """Return a grant for the request, as JSON. `role` is true if the grant must also give the caller a role.

    The grant is for this path alone. If no pattern matches this path and no other, the grant is for all paths of the
    provider.
    """
    wanted = f"{method} {path.meanings[0]}"
    try:
        fits = matches(direct_pattern(wanted).path, path.meanings[1])
    except ValueError:
        fits = False
    given: Mapping[str, Any] = {"direct_paths": wanted if fits else f"{method} {ROOT}{path.provider}/**"}
    if role:
        given = {"role": "user", **given}
    return json.dumps({"src": [source_of(identity)], "app": {CAPABILITIES[0]: [given]}}, ensure_ascii=False)


REASONS: Final[Mapping[Reason, str]] = {
    "granted": "",
    "no_role": "no grant gives a role, and without one nothing works",
    "not_granted": "no grant covers it",
    "not_clear": "such a path is refused to everybody",
    "unknown": "there is no such provider",
}


def direct_text(made: DirectExplanation) -> str:
    """Return the explanation `made` as lines of text, without a newline at the end."""
    why = REASONS[made.reason]
    lines = [f"{made.login} {'may' if made.allowed else 'may not'} send {made.request}{f': {why}' if why else ''}"]
    lines += [f'  role "{made.role}"{_by(made.role_by)}' if made.role else "  no role"]
    lines += [f"  {json.dumps(each.pattern, ensure_ascii=False)}{_by((each.origin,))}" for each in made.by]
    if made.fault:
        lines.append(f"  {made.fault}")
    if made.grant:
        lines += ['To allow it, add to "grants":', f"  {made.grant},"]
    return "\n".join([*lines, *filter(None, (made.policy, made.note))])


def _by(origins: Sequence[str]) -> str:
    known = [origin for origin in origins if origin]
    return f" by {' and '.join(known)}" if known else ""
