"""Who may use what: the grants of a configuration as plain data, and the questions that are asked of them.

Everything is denied that no grant allows; grants only ever add, and `admin` outranks `user`. How an identity was found
out, how a refusal is worded and what a model is are not decided here. A changed configuration makes a new `Grants`.

Sources of a grant (`src`), as the product documents them:

* `*` matches everyone, the local machine's `(loopback)` too.
* Anything else matches the login as a whole. A tagged node has no user: its login is all its tags, sorted and joined by
  ",", so `tag:api,tag:prod` matches a node with just these two and `tag:api` one that has no other tag. A tag does not
  match on its own beside others ("src must equal that whole string", how-aperture-works): whoever adds a tag to a node
  makes it somebody else, and loses access rather than gaining it.
* `group:x` matches members of the group, by the name with or without `group:`; groups that have a mail address (SCIM)
  match by that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from gateway.access.identity.caller import Identity
from gateway.config.model import Capability, Grant, Permission, Role
from gateway.contract.globs import matches
from gateway.money.quotas.definitions import RateLimit

CALLERS: Final = 1024
"""Identities whose access is remembered: more than a large tailnet has at work at a time."""
DECISIONS: Final = 8192
"""Decisions that are remembered."""
LONGEST: Final = 512
"""Characters of a model's name up to which a decision is remembered: clients choose names, and memory is ours."""

Headers = tuple[tuple[str, str], ...]
Limits = tuple[tuple[RateLimit, tuple[str, ...]], ...]


class Patterns:
    """Globs over "provider/model", by the text before their first star: few have one that a given name begins with."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._exact: set[str] = set()
        self._all: set[str] = set()
        """Texts with which any name may go on: what `bedrock/**` and `**` say."""
        self._globs: dict[str, list[str]] = {}
        for pattern in dict.fromkeys(patterns):
            start, star, rest = pattern.partition("*")
            if not star:
                self._exact.add(pattern)
            elif rest == "*" and (not start or start.endswith("/")):
                self._all.add(start)
            else:
                self._globs.setdefault(start, []).append(pattern)
        self._lengths = tuple(sorted({len(start) for start in (*self._all, *self._globs)}))

    def match(self, name: str) -> bool:
        return name in self._exact or any(self._goes_on(name[:length], name) for length in self._lengths)

    def _goes_on(self, start: str, name: str) -> bool:
        return start in self._all or any(matches(pattern, name) for pattern in self._globs.get(start, ()))


@dataclass(frozen=True, slots=True)
class Access:
    """All that one caller is granted, by the configuration and by the tailnet policy."""

    capabilities: tuple[Capability, ...]
    role: Role | None
    """None is for a caller that may do nothing at all."""
    permissions: frozenset[Permission]
    patterns: Patterns
    headed: tuple[Capability, ...]
    """Those of the capabilities that add headers."""
    charged: tuple[Capability, ...]
    """Those that name quotas."""
    limited: tuple[Capability, ...]
    """Those that have rate limits."""


class Grants:
    """Answers for one configuration. Models of providers that are not declared are never allowed."""

    def __init__(self, grants: Sequence[Grant], provider_ids: Iterable[str]) -> None:
        self._by_source = _by_source(grants)
        self._providers = frozenset(provider_ids)
        self.access = lru_cache(CALLERS)(self._access)
        self._allows = lru_cache(DECISIONS)(self.decide)
        self._headers = lru_cache(DECISIONS)(self._find_headers)
        self._quotas = lru_cache(DECISIONS)(self._find_quotas)
        self._rate_limits = lru_cache(DECISIONS)(self._find_rate_limits)
        self.metered = any(
            capability.quotas or capability.rate_limits for grant in grants for capability in grant.capabilities
        )
        """Whether the configuration says anything of quotas or limits; the tailnet policy may say more of a caller."""

    def role(self, identity: Identity) -> Role | None:
        """None is for a caller that may do nothing at all."""
        return self.access(identity).role

    def allows(self, identity: Identity, provider: str, model: str) -> bool:
        """A role and a matching pattern are both needed; they may come from different grants."""
        return (self._allows if len(model) <= LONGEST else self.decide)(identity, provider, model)

    def may(self, identity: Identity, permission: Permission) -> bool:
        """Said by name only: no role implies it, and it needs no role, for a scraper of metrics has none."""
        return permission in self.access(identity).permissions

    def headers(self, identity: Identity, provider: str, model: str) -> Headers:
        """What the caller's capabilities add to a request for this model, in the order in which they are written."""
        return self._headers(identity, provider, model) if self.access(identity).headed else ()

    def quotas(self, identity: Identity, provider: str, model: str) -> tuple[str, ...]:
        """The definitions that the caller's requests for this model are charged to, each once."""
        return self._quotas(identity, provider, model) if self.access(identity).charged else ()

    def rate_limits(self, identity: Identity, provider: str, model: str) -> Limits:
        """The caller's limits for this model, each with the models that it was granted for."""
        return self._rate_limits(identity, provider, model) if self.access(identity).limited else ()

    def decide(self, identity: Identity, provider: str, model: str) -> bool:
        """As `allows`, and not remembered: for those who ask for each of many models."""
        access = self.access(identity)
        return provider in self._providers and access.role is not None and access.patterns.match(f"{provider}/{model}")

    def _access(self, identity: Identity) -> Access:
        granted = {
            place: capability
            for source in sources(identity)
            for place, capability in self._by_source.get(source, {}).items()
        }
        capabilities = (*(granted[place] for place in sorted(granted)), *identity.capabilities)
        roles = {capability.role for capability in capabilities}
        return Access(
            capabilities,
            role="admin" if "admin" in roles else "user" if "user" in roles else None,
            permissions=frozenset(name for capability in capabilities for name in capability.permissions),
            patterns=Patterns(pattern for capability in capabilities for pattern in capability.models),
            headed=tuple(capability for capability in capabilities if capability.add_headers),
            charged=tuple(capability for capability in capabilities if capability.quotas),
            limited=tuple(capability for capability in capabilities if capability.rate_limits),
        )

    def _find_headers(self, identity: Identity, provider: str, model: str) -> Headers:
        name = f"{provider}/{model}"
        return tuple(
            header
            for capability in self.access(identity).headed
            if applies(capability, name)
            for header in capability.add_headers
        )

    def _find_quotas(self, identity: Identity, provider: str, model: str) -> tuple[str, ...]:
        name = f"{provider}/{model}"
        charged = self.access(identity).charged
        found = [quota for capability in charged if applies(capability, name) for quota in capability.quotas]
        return tuple(dict.fromkeys(found))

    def _find_rate_limits(self, identity: Identity, provider: str, model: str) -> Limits:
        name = f"{provider}/{model}"
        return tuple(
            (limit, capability.models)
            for capability in self.access(identity).limited
            if applies(capability, name)
            for limit in capability.rate_limits
        )


def _by_source(grants: Sequence[Grant]) -> dict[str, dict[tuple[int, int], Capability]]:
    """Each source's capabilities by their places, so that a caller's are found without trying all grants."""
    found: dict[str, dict[tuple[int, int], Capability]] = {}
    for outer, grant in enumerate(grants):
        for source in grant.src:
            mine = found.setdefault(source, {})
            mine.update({(outer, inner): capability for inner, capability in enumerate(grant.capabilities)})
    return found


def sources(identity: Identity) -> frozenset[str]:
    """Every `src` that means this caller."""
    joined = ",".join(sorted(identity.tags))
    groups = identity.groups
    return frozenset({"*", identity.login, *groups, *(f"group:{group}" for group in groups)} | ({joined} - {""}))


def applies(capability: Capability, name: str) -> bool:
    """Whether a capability speaks of a model (`provider/model`); one without patterns is for all ("floating")."""
    return not capability.models or any(matches(pattern, name) for pattern in capability.models)
