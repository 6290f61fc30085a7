"""Why somebody may, or may not, use a model: the chain's decision, with the grants that it rests on.

Everything is asked of the same functions that decide about calls (`Catalog.find`, `Grants.decide`, `matches`); nothing
is decided here a second time. `explain` tells all, so it is for administrators. `own_view` is what a caller may learn
about themselves: it is made from what is theirs, not cut out of the whole, so that neither its words nor the time that
it takes tell what exists beside. How it is printed is in `text.py`, how it is asked for over HTTP in `admin/`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from gateway.access.grants import Access
from gateway.access.identity.caller import LOCAL_LOGIN, LOOPBACK, Identity, tagged, user
from gateway.call.explain.near_misses import NearMiss, Wanted, near_misses
from gateway.call.runtime import Runtime
from gateway.config.model import Config, Role, Strategy
from gateway.config.sections.grant_capabilities import CAPABILITIES
from gateway.contract.errors import Refused
from gateway.contract.globs import matches
from gateway.upstream.catalog import Offer
from gateway.upstream.near_names import near_names

Reason = Literal["granted", "no_role", "not_granted", "disabled", "unknown", "not_found"]
"""`not_found` is what callers are told of themselves: unknown and not granted look alike."""
State = Literal["allowed", "no_role", "not_granted", "disabled", "unknown"]

POLICY_UNKNOWN: Final = "Grants of the tailnet policy are known only when the caller connects; none is counted here."
_POLICY: Final = (
    'In the tailnet policy the same grant also needs a "dst", this gateway\'s node or tag such as "dst": ["tag:ai"]; '
    "without one it is accepted and has no effect."
)
_TAG_POLICY: Final = ' There "src" is one of the tags.'
ASK_ADMIN: Final = "An administrator who asks the same with &as=LOGIN is told what exactly to grant."


class NoSuchCaller(ValueError):
    """Nobody can be the caller who was asked about; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that covers a model, and where it is written."""

    models: str
    origin: str


@dataclass(frozen=True, slots=True)
class Offered:
    """A model at one provider."""

    provider: str
    model: str
    state: State
    by: tuple[Pattern, ...] = ()
    headers: tuple[str, ...] = ()
    """Names of the headers that grants add to requests; never their values, which may be keys."""

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer; as JSON, its fields are the members."""

    allowed: bool
    reason: Reason
    login: str
    groups: tuple[str, ...]
    tags: tuple[str, ...]
    model: str
    role: Role | None
    role_by: tuple[str, ...]
    """The places where the role is written: every capability that gives it."""
    alias: Strategy | None
    """The strategy that picks one of the offers, if the name is an alias."""
    offers: tuple[Offered, ...]
    near: tuple[str, ...] = ()
    """Names like the one that was asked for, where there is none such."""
    near_misses: tuple[NearMiss, ...] = ()
    grant: str = ""
    """An element for "grants" that would let the caller through, with only what is missing; "" if there is none."""
    policy: str = ""
    """The difference in the tailnet policy; "" if there is no grant to write."""
    note: str = ""


def explain(runtime: Runtime, identity: Identity, model: str, *, note: str = "") -> Explanation:
    """Return the whole explanation, with the names of others: for administrators. Raises nothing."""
    access = runtime.grants.access(identity)
    alias = runtime.catalog.aliases.get(model)
    offers_of_name = runtime.catalog.find(model) if alias is None else alias.offers
    enabled = [_explain_offer(access, offer) for offer in offers_of_name]
    offers = (*enabled, *_other_meanings(runtime.config, model, enabled))
    explanation = Explanation(
        allowed=any(offer.state == "allowed" for offer in enabled),
        reason=_reason(access.role, offers),
        login=identity.login,
        groups=identity.groups,
        tags=identity.tags,
        model=model,
        role=access.role,
        role_by=_role_by(access),
        alias=alias.strategy if alias else None,
        offers=offers,
        note=note,
    )
    if explanation.allowed:
        return explanation
    uncovered = [] if any(offer.by for offer in enabled) else [offer.name for offer in enabled]
    wanted = Wanted(access.role is None, uncovered)
    return replace(
        explanation,
        near=() if offers else tuple(near_names(model, _names(runtime))),
        near_misses=near_misses(runtime.config.grants, identity, access.capabilities, wanted) if enabled else (),
        grant=_grant(identity, wanted.role, uncovered[:1]) if enabled else "",
        policy=_policy(identity) if enabled else "",
    )


def own_view(runtime: Runtime, identity: Identity, model: str) -> Explanation:
    """Return what a caller without `admin` may learn: nothing that depends on other people's grants. Raises nothing."""
    catalog, access = runtime.catalog, runtime.grants.access(identity)
    alias = catalog.aliases.get(model)
    offers_of_name = catalog.find(model) if alias is None else alias.offers
    granted = [offer for offer in offers_of_name if access.allows(offer.provider_id, offer.model)]
    allowed = bool(granted)
    return Explanation(
        allowed=allowed,
        reason="granted" if allowed else "not_found" if access.role else "no_role",
        login=identity.login,
        groups=identity.groups,
        tags=identity.tags,
        model=model,
        role=access.role,
        role_by=tuple(map(_path, _role_by(access))),
        alias=alias.strategy if alias and allowed else None,
        offers=tuple(_without_places(_explain_offer(access, offer)) for offer in granted),
        near=() if allowed else tuple(catalog.near(model, access)),
        # no grant to pass on: one that helps would tell what the name means here, and another helps nobody
        note="" if allowed else ASK_ADMIN,
    )


def somebody(login: str, groups: Sequence[str] = (), tags: Sequence[str] = ()) -> Identity:
    """Return the caller whom an operator names. A node may be named by its tags alone, joined by "," in any order.

    The caller has no capabilities of the tailnet policy, which only tailscaled knows. Raises `NoSuchCaller`.
    """
    if login.startswith("tag:"):
        login, tags = "", (*login.split(","), *tags)
    if not all(text.isprintable() for text in (login, *groups, *tags)):
        raise NoSuchCaller("a login, group or tag holds characters that cannot be printed")
    if not login and not tags:
        raise NoSuchCaller("a login or a tag is needed")
    if not login and groups:
        raise NoSuchCaller("a tagged node is in no group")
    if login == LOCAL_LOGIN and not groups and not tags:
        return LOOPBACK
    try:
        if not login:
            return tagged(tags)
        person = user(login, groups=groups)
        # a static listener may have both
        return Identity(person.login, person.groups, tagged(tags).tags) if tags else person
    except Refused:
        raise NoSuchCaller(f'nobody is known as "{login or ",".join(tags)}"; tags begin with "tag:"') from None


def _explain_offer(access: Access, offer: Offer) -> Offered:
    by = tuple(
        Pattern(pattern, given.origin)
        for given in access.capabilities
        for pattern in given.models
        if matches(pattern, offer.name)
    )
    headers: tuple[str, ...] = ()
    state: State = "no_role" if by and access.role is None else "not_granted"
    if access.allows(offer.provider_id, offer.model):
        state = "allowed"
        headers = tuple(name for name, _ in access.headers(offer.provider_id, offer.model))
    return Offered(offer.provider_id, offer.model, state, by, headers)


def _role_by(access: Access) -> tuple[str, ...]:
    return tuple(given.origin for given in access.capabilities if access.role and given.role == access.role)


def _other_meanings(config: Config, name: str, enabled: Sequence[Offered]) -> list[Offered]:
    """Return what the name means beside its offers: models of disabled providers, and targets that do not exist."""
    offered = {(offer.provider, offer.model) for offer in enabled}
    declared = {
        (provider.id, model): provider.disabled for provider in config.providers.values() for model in provider.models
    }
    alias = config.aliases.get(name)
    if alias is None:
        meant = [place for place, disabled in declared.items() if disabled and name in {place[1], "/".join(place)}]
    else:
        meant = [place for place in alias.targets if place not in offered]
    return [Offered(*place, "disabled" if declared.get(place) else "unknown") for place in meant]


def _reason(role: Role | None, offers: Sequence[Offered]) -> Reason:
    """Return the reason that the chain meets first, then the one that explains a missing offer."""
    states = {offer.state for offer in offers}
    if "allowed" in states:
        return "granted"
    if role is None:
        return "no_role"
    reasons: tuple[Reason, ...] = ("not_granted", "disabled")
    return next((reason for reason in reasons if reason in states), "unknown")


def _names(runtime: Runtime) -> dict[str, None]:
    """Return every name that a client may send."""
    return dict.fromkeys([*runtime.catalog.aliases, *(offer.model for offer in runtime.catalog.offers)])


def _grant(identity: Identity, role: bool, patterns: Sequence[str]) -> str:
    given: list[Mapping[str, Any]] = [{"role": "user"}] if role else []
    given += [{"models": pattern} for pattern in patterns]
    source = ",".join(sorted(identity.tags)) or identity.login
    return json.dumps({"src": [source], "app": {CAPABILITIES[0]: given}}, ensure_ascii=False)


def _policy(identity: Identity) -> str:
    """Return the note for the tailnet policy; "" for the local machine, which is no node that a policy could name."""
    if identity.login == LOCAL_LOGIN:
        return ""
    return _POLICY + (_TAG_POLICY if len(identity.tags) > 1 else "")


def _without_places(offer: Offered) -> Offered:
    return replace(offer, by=tuple(replace(pattern, origin=_path(pattern.origin)) for pattern in offer.by))


def _path(origin: str) -> str:
    """Return a capability's path in the document, without the file's place on this machine."""
    return origin.partition(" (")[0]
