"""Who may use what: the grants of a configuration and of the tailnet policy, and one caller's access by them.

- Everything is denied that no grant allows. Grants only ever add, and `admin` outranks `user`.
- A role and a matching pattern are both needed for a model; they may come from different grants.
- A permission is granted by its name only: no role implies it, and it needs no role, because a scraper of metrics has
  none.
- A changed configuration makes a new `Grants`, so nothing here is invalidated.

How a caller is identified, how a refusal is worded and which models exist is decided elsewhere.

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
from functools import lru_cache
from typing import Final, NamedTuple

from gateway.access.identity.caller import Identity
from gateway.config.model import Capability, Grant, Permission, Role
from gateway.contract.globs import matches
from gateway.money.quotas.definitions import RateLimit

MAX_CALLERS: Final = 1024
"""Most callers whose access is cached: more than a large tailnet has active at a time."""
MAX_MODELS: Final = 64
"""Most models of one caller whose terms are cached: more than one caller uses at a time. Names are the catalog's."""

Headers = tuple[tuple[str, str], ...]
Limits = tuple[tuple[RateLimit, tuple[str, ...]], ...]


class Patterns:
    """Globs over "provider/model", indexed by the text before their first star: few of them fit a given name."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._exact: set[str] = set()
        self._prefixes: set[str] = set()
        """Texts that any name may continue: those of `bedrock/**` and `**`."""
        self._globs: dict[str, list[str]] = {}
        for pattern in dict.fromkeys(patterns):
            start, star, rest = pattern.partition("*")
            if not star:
                self._exact.add(pattern)
            elif rest == "*" and (not start or start.endswith("/")):
                self._prefixes.add(start)
            else:
                self._globs.setdefault(start, []).append(pattern)
        self._lengths = tuple(sorted({len(start) for start in (*self._prefixes, *self._globs)}))

    def match(self, name: str) -> bool:
        """Return whether any of the globs matches."""
        return name in self._exact or any(self._match_after(name[:length], name) for length in self._lengths)

    def _match_after(self, start: str, name: str) -> bool:
        return start in self._prefixes or any(matches(pattern, name) for pattern in self._globs.get(start, ()))


class _Terms(NamedTuple):
    """The terms on which a caller may use one model."""

    allowed: bool
    headers: Headers
    quotas: tuple[str, ...]
    rate_limits: Limits


class Access:
    """All that one caller is granted. Models of providers that are not declared are never allowed."""

    def __init__(self, capabilities: tuple[Capability, ...], providers: frozenset[str]) -> None:
        roles = {capability.role for capability in capabilities}
        self.capabilities = capabilities
        self.role: Role | None = "admin" if "admin" in roles else "user" if "user" in roles else None
        """The higher of the granted roles; None for a caller that may do nothing at all."""
        self.permissions: frozenset[Permission] = frozenset(
            name for capability in capabilities for name in capability.permissions
        )
        self.all_quotas = tuple(dict.fromkeys(name for capability in capabilities for name in capability.quotas))
        """Definitions of quotas that the caller's requests are charged to, for one model or another."""
        self.metered = bool(self.all_quotas) or any(capability.rate_limits for capability in capabilities)
        """A quota or rate limit applies to the caller, for one model or another."""
        self._providers = providers
        self._patterns = Patterns(pattern for capability in capabilities for pattern in capability.models)
        self._with_terms = tuple(
            capability
            for capability in capabilities
            if capability.add_headers or capability.quotas or capability.rate_limits
        )
        self._terms = lru_cache(MAX_MODELS)(self._find_terms)

    def allows(self, provider: str, model: str) -> bool:
        """Return whether the caller may use a model."""
        return self._terms(provider, model).allowed

    def select(self, models: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return those of many models, as (provider, model), that the caller may use. Leaves the cache alone."""
        return {model for model in models if self._is_allowed(*model)}

    def headers(self, provider: str, model: str) -> Headers:
        """Return the headers that capabilities add to a request for a model, in the order in which they are written."""
        return self._terms(provider, model).headers

    def quotas(self, provider: str, model: str) -> tuple[str, ...]:
        """Return the definitions that requests for a model are charged to, each once."""
        return self._terms(provider, model).quotas

    def rate_limits(self, provider: str, model: str) -> Limits:
        """Return the limits for a model, each with the patterns of the capability that sets it."""
        return self._terms(provider, model).rate_limits

    def _is_allowed(self, provider: str, model: str) -> bool:
        return self.role is not None and provider in self._providers and self._patterns.match(f"{provider}/{model}")

    def _find_terms(self, provider: str, model: str) -> _Terms:
        name = f"{provider}/{model}"
        fitting = [capability for capability in self._with_terms if applies(capability, name)]
        return _Terms(
            allowed=self._is_allowed(provider, model),
            headers=tuple(header for capability in fitting for header in capability.add_headers),
            quotas=tuple(dict.fromkeys(quota for capability in fitting for quota in capability.quotas)),
            rate_limits=tuple((limit, capability.models) for capability in fitting for limit in capability.rate_limits),
        )


class Grants:
    """The grants of one configuration."""

    def __init__(self, grants: Sequence[Grant], provider_ids: Iterable[str]) -> None:
        self._by_source = _by_source(grants)
        self._providers = frozenset(provider_ids)
        self._access = lru_cache(MAX_CALLERS)(self._find_access)

    def access(self, identity: Identity) -> Access:
        """Return what a caller is granted, by the configuration and by the tailnet policy."""
        return self._access(identity)

    def _find_access(self, identity: Identity) -> Access:
        granted = {
            position: capability
            for source in sources(identity)
            for position, capability in self._by_source.get(source, {}).items()
        }
        own = (granted[position] for position in sorted(granted))
        return Access((*own, *identity.capabilities), self._providers)


def _by_source(grants: Sequence[Grant]) -> dict[str, dict[tuple[int, int], Capability]]:
    """Return each source's capabilities by their position, so that a caller's access does not try all grants."""
    by_source: dict[str, dict[tuple[int, int], Capability]] = {}
    for outer, grant in enumerate(grants):
        for source in grant.src:
            positions = by_source.setdefault(source, {})
            positions.update({(outer, inner): capability for inner, capability in enumerate(grant.capabilities)})
    return by_source


def sources(identity: Identity) -> frozenset[str]:
    """Return every `src` that matches this caller."""
    joined = ",".join(sorted(identity.tags))
    groups = identity.groups
    return frozenset({"*", identity.login, *groups, *(f"group:{group}" for group in groups)} | ({joined} - {""}))


def applies(capability: Capability, name: str) -> bool:
    """Return whether a capability applies to a model (`provider/model`); one without patterns applies to all."""
    return not capability.models or any(matches(pattern, name) for pattern in capability.models)
