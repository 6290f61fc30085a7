"""Explanations of why a caller may or may not use a model, with the grants that decide it.

- The decision comes from the same functions as in a real call (`Catalog.find`, `Access.allows`, `matches`).
- `explain` also shows what is granted to other callers, so it is for administrators.
- `own_view` is for callers who ask about themselves. It is computed only from the caller's own grants. So neither its
  content nor the time that it takes reveals which other models exist.

The text form is in `text.py`, and the HTTP interface in `web/admin/explain.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from gateway.access.grants import Access
from gateway.access.identity.caller import LOCAL_LOGIN, LOOPBACK, Identity, tagged, user
from gateway.call.auto_caching import is_priced, lifetime_at
from gateway.call.explain.near_misses import NearMiss, Wanted, near_misses
from gateway.call.runtime import Runtime
from gateway.config.model import Config, Role, Strategy
from gateway.config.sections.grant_capabilities import CAPABILITIES
from gateway.contract.errors import Refused
from gateway.contract.globs import matches
from gateway.money.quotas.definitions import Chain
from gateway.upstream.catalog import Offer
from gateway.upstream.near_names import near_names

Reason = Literal["granted", "no_role", "not_granted", "disabled", "unknown", "not_found"]
"""Reasons why a caller may or may not use a model.

`own_view` returns `not_found` both for a model that does not exist and for a model that is not granted, so that a
caller cannot tell them apart.
"""
State = Literal["allowed", "no_role", "not_granted", "disabled", "unknown"]

POLICY_UNKNOWN: Final = "Grants of the tailnet policy are known only when the caller connects; none is counted here."
_POLICY: Final = (
    'In the tailnet policy the same grant also needs a "dst", this gateway\'s node or tag such as "dst": ["tag:ai"]; '
    "without one it is accepted and has no effect."
)
_TAG_POLICY: Final = ' There "src" is one of the tags.'
ASK_ADMIN: Final = "An administrator who asks the same with &as=LOGIN is told what exactly to grant."


class NoSuchCaller(ValueError):
    """The error for a login, groups and tags that no caller can have together. The message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that matches the model.

    The pattern is written in a capability. `origin` says where this capability is in the configuration or in the
    tailnet policy.
    """

    models: str
    origin: str


@dataclass(frozen=True, slots=True)
class Offered:
    """One model at one provider, with the decision whether the caller may use it."""

    provider: str
    model: str
    state: State
    by: tuple[Pattern, ...] = ()
    headers: tuple[str, ...] = ()
    """The names of the headers that grants add to requests. The values are left out, because they may be keys."""
    quotas: tuple[Chain, ...] = ()
    """The chains of quotas to which calls are charged. A chain has the name of a quota, followed by the names of its
    overdraft quotas.
    """
    auto_cache: Literal["", "clients that cannot ask", "all clients"] = ""
    """The clients for whom the gateway asks the provider to cache prompts. The value is "" if there are none."""

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """The explanation of why a caller may or may not use a model. In JSON, it is an object with these fields."""

    allowed: bool
    reason: Reason
    login: str
    groups: tuple[str, ...]
    tags: tuple[str, ...]
    model: str
    role: Role | None
    role_by: tuple[str, ...]
    """The positions of the capabilities that give the caller the role, in the configuration or the tailnet policy."""
    alias: Strategy | None
    """The strategy that picks a model of the alias for each call, if `model` is an alias. It is None otherwise."""
    offers: tuple[Offered, ...]
    near: tuple[str, ...] = ()
    """Names similar to `model`, if no model of this name was found."""
    near_misses: tuple[NearMiss, ...] = ()
    grant: str = ""
    """A grant that would give the caller the missing access and nothing more. It is "" if nothing is missing or no
    grant would help.

    The grant is JSON text for the list `grants` of the configuration.
    """
    policy: str = ""
    """A note on how `grant` must be changed for use in the tailnet policy. It is "" if there is no `grant`, or if the
    policy cannot name the caller.
    """
    note: str = ""


def explain(runtime: Runtime, identity: Identity, model: str, *, note: str = "") -> Explanation:
    """Return the full explanation. It shows the access of other callers, so it is for administrators only. Raises no
    exception.
    """
    access = runtime.grants.access(identity)
    alias = runtime.catalog.aliases.get(model)
    offers_of_name = runtime.catalog.find(model) if alias is None else alias.offers
    enabled = [_explain_offer(runtime, access, offer) for offer in offers_of_name]
    offers = (*enabled, *_other_meanings(runtime.config, model, enabled))
    explanation = Explanation(
        allowed=any(offer.state == "allowed" for offer in enabled),
        reason=_reason(access.role, offers),
        login=identity.login,
        groups=identity.groups,
        tags=identity.tags,
        model=model,
        role=access.role,
        role_by=role_origins(access),
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
        policy=policy_note(identity) if enabled else "",
    )


def own_view(runtime: Runtime, identity: Identity, model: str) -> Explanation:
    """Return the explanation of why the caller may or may not use a model, for a caller who is not an administrator.

    Nothing in the explanation depends on what is granted to others. Raises no exception.
    """
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
        role_by=tuple(map(place_of, role_origins(access))),
        alias=alias.strategy if alias and allowed else None,
        offers=tuple(_without_places(_explain_offer(runtime, access, offer)) for offer in granted),
        near=() if allowed else tuple(catalog.near(model, access)),
        # `grant` stays empty, because the right grant would reveal whether the model exists, and at which provider
        note="" if allowed else ASK_ADMIN,
    )


def somebody(login: str, groups: Sequence[str] = (), tags: Sequence[str] = ()) -> Identity:
    """Return the identity of a caller about whom an administrator asks, from the caller's login, groups and tags.

    - The tags of a tagged node may also be given as `login`, joined by "," in any order.
    - The identity has no capabilities of the tailnet policy, because tailscaled reports them only when a caller
      connects.
    - Raises `NoSuchCaller` if no caller can have these values.
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
        # a caller of a static listener may have both a login and tags
        return Identity(person.login, person.groups, tagged(tags).tags) if tags else person
    except Refused:
        raise NoSuchCaller(f'nobody is known as "{login or ",".join(tags)}"; tags begin with "tag:"') from None


def _explain_offer(runtime: Runtime, access: Access, offer: Offer) -> Offered:
    by = tuple(
        Pattern(pattern, given.origin)
        for given in access.capabilities
        for pattern in given.models
        if matches(pattern, offer.name)
    )
    headers: tuple[str, ...] = ()
    quotas: tuple[Chain, ...] = ()
    state: State = "no_role" if by and access.role is None else "not_granted"
    if access.allows(offer.provider_id, offer.model):
        state = "allowed"
        headers = tuple(name for name, _ in access.headers(offer.provider_id, offer.model))
        quotas = access.quotas(offer.provider_id, offer.model)
    return Offered(offer.provider_id, offer.model, state, by, headers, quotas, _auto_cache(runtime, offer))


def _auto_cache(runtime: Runtime, offer: Offer) -> Literal["", "clients that cannot ask", "all clients"]:
    provider = offer.provider
    price = runtime.prices.of(provider, offer.model)
    if not (provider.auto_cache and offer.caps.cache_points and is_priced(price, lifetime_at(provider, offer.caps))):
        return ""
    return "all clients" if provider.auto_cache == "all" else "clients that cannot ask"


def role_origins(access: Access) -> tuple[str, ...]:
    """Return where the caller's role comes from: the positions, in the configuration or in the tailnet policy, of the
    capabilities that grant it.
    """
    return tuple(given.origin for given in access.capabilities if access.role and given.role == access.role)


def _other_meanings(config: Config, name: str, enabled: Sequence[Offered]) -> list[Offered]:
    """Return the models that `name` stands for in the configuration but that are not among `enabled`.

    If `name` is an alias, these are its disabled or missing targets. For any other name, these are models of disabled
    providers.
    """
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
    """Return the reason why a caller may or may not use a model.

    If several reasons apply, the first of these is returned: no role, not granted, disabled, unknown.
    """
    states = {offer.state for offer in offers}
    if "allowed" in states:
        return "granted"
    if role is None:
        return "no_role"
    reasons: tuple[Reason, ...] = ("not_granted", "disabled")
    return next((reason for reason in reasons if reason in states), "unknown")


def _names(runtime: Runtime) -> dict[str, None]:
    """Return the names of all aliases and models. The dict serves as an ordered set. Its values are unused."""
    return dict.fromkeys([*runtime.catalog.aliases, *(offer.model for offer in runtime.catalog.offers)])


def _grant(identity: Identity, role: bool, patterns: Sequence[str]) -> str:
    given: list[Mapping[str, Any]] = [{"role": "user"}] if role else []
    given += [{"models": pattern} for pattern in patterns]
    return json.dumps({"src": [source_of(identity)], "app": {CAPABILITIES[0]: given}}, ensure_ascii=False)


def source_of(identity: Identity) -> str:
    """Return the value for `src` of a grant that matches the caller and nobody else."""
    return ",".join(sorted(identity.tags)) or identity.login


def policy_note(identity: Identity) -> str:
    """Return the note on the tailnet policy. The note is "" for a caller on the local machine, because a policy cannot
    name such a caller.
    """
    if identity.login == LOCAL_LOGIN:
        return ""
    return _POLICY + (_TAG_POLICY if len(identity.tags) > 1 else "")


def _without_places(offer: Offered) -> Offered:
    return replace(offer, by=tuple(replace(pattern, origin=place_of(pattern.origin)) for pattern in offer.by))


def place_of(origin: str) -> str:
    """Return an origin without its last part, the file, line and column in parentheses. The path in the configuration
    remains.
    """
    return origin.partition(" (")[0]
