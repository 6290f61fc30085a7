"""The access of each caller, computed from the grants of the configuration and of the tailnet policy.

- Access is denied unless a grant allows it. A grant only ever adds access, and the role `admin` outranks `user`.
- To use a model, a caller needs both a role and a pattern that matches the model. The two may come from different
  grants.
- A permission, such as `read_metrics`, must be granted by its own name. Roles do not include permissions, and a caller
  with a permission needs no role. For example, a scraper of metrics has only a permission.
- A changed configuration makes a new `Grants`, so the caches here never need to be invalidated.

The identification of callers, the wording of refusals and the list of models are elsewhere.

Sources of a grant (`src`), as Aperture's documentation defines them:

* `*` matches every caller, including `(loopback)`, the caller of a listener in mode `loopback`.
* Any other source must equal the whole login. The login of a tagged node is all its tags, sorted and joined by ",". So
  `tag:api,tag:prod` matches a node with exactly these two tags, and `tag:api` matches a node that has no other tag
  (Aperture's documentation: "src must equal that whole string"). A node that gets another tag becomes a different
  caller, and loses its former access.
* `group:x` also matches the members of a group that the identity names `x` or `group:x`. A group may be named by its
  mail address (SCIM).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from typing import Final, NamedTuple

from gateway.access.identity.caller import Identity
from gateway.config.model import Capability, Grant, Permission, Role
from gateway.contract.globs import matches
from gateway.money.quotas.definitions import Chain, RateLimit, merged_chains

MAX_CALLERS: Final = 1024
"""Maximum number of callers whose access is cached. Even a large tailnet has fewer callers active at once."""
MAX_MODELS: Final = 64
"""Maximum number of models for which a caller's terms (`_Terms`) are cached. Few callers use more models at once."""

Headers = tuple[tuple[str, str], ...]
Limits = tuple[tuple[RateLimit, tuple[str, ...]], ...]


class Patterns:
    """Globs that match names of the form "provider/model".

    The globs are indexed by their text before the first star, so that each name is compared with few globs.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._exact: set[str] = set()
        self._prefixes: set[str] = set()
        """Prefixes of globs that match every name with that prefix: "bedrock/" for `bedrock/**`, and "" for `**`."""
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
    """A caller's access to one model: whether it is allowed, and the headers, quotas and rate limits of the calls."""

    allowed: bool
    headers: Headers
    quotas: tuple[Chain, ...]
    rate_limits: Limits


class Access:
    """The access that one caller is granted.

    `providers` are the ids of the configured providers. Models of other providers are never allowed.
    """

    def __init__(self, capabilities: tuple[Capability, ...], providers: frozenset[str]) -> None:
        roles = {capability.role for capability in capabilities}
        self.capabilities = capabilities
        self.role: Role | None = "admin" if "admin" in roles else "user" if "user" in roles else None
        """The highest granted role; None for a caller without a role, who may use no model."""
        self.permissions: frozenset[Permission] = frozenset(
            name for capability in capabilities for name in capability.permissions
        )
        self.all_quotas = tuple(
            dict.fromkeys(name for capability in capabilities for chain in capability.quotas for name in chain)
        )
        """The names of all quotas to which requests of this caller may be charged."""
        self.metered = bool(self.all_quotas) or any(capability.rate_limits for capability in capabilities)
        """Whether some quota or rate limit applies to requests of this caller."""
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
        """Return those of the (provider, model) pairs that the caller may use.

        The cache is bypassed, because a list of all models would evict the models that the caller uses.
        """
        return {model for model in models if self._is_allowed(*model)}

    def headers(self, provider: str, model: str) -> Headers:
        """Return the headers that grants add to a request for a model, in the order of the capabilities."""
        return self._terms(provider, model).headers

    def quotas(self, provider: str, model: str) -> tuple[Chain, ...]:
        """Return the quotas to which requests for a model are charged, without duplicates.

        Each item is a quota, followed by its overdraft quotas.
        """
        return self._terms(provider, model).quotas

    def rate_limits(self, provider: str, model: str) -> Limits:
        """Return the rate limits for a model, each with the model patterns of the capability that sets the limit."""
        return self._terms(provider, model).rate_limits

    def _is_allowed(self, provider: str, model: str) -> bool:
        return self.role is not None and provider in self._providers and self._patterns.match(f"{provider}/{model}")

    def _find_terms(self, provider: str, model: str) -> _Terms:
        name = f"{provider}/{model}"
        fitting = [capability for capability in self._with_terms if applies(capability, name)]
        return _Terms(
            allowed=self._is_allowed(provider, model),
            headers=tuple(header for capability in fitting for header in capability.add_headers),
            quotas=merged_chains(chain for capability in fitting for chain in capability.quotas),
            rate_limits=tuple((limit, capability.models) for capability in fitting for limit in capability.rate_limits),
        )


class Grants:
    """The grants of one configuration, and a cache of the access that callers have by these grants."""

    def __init__(self, grants: Sequence[Grant], provider_ids: Iterable[str]) -> None:
        # not a bound method: grants in no cycle of references are freed as soon as no call uses them
        find = partial(_find_access, _by_source(grants), frozenset(provider_ids))
        self._access = lru_cache(MAX_CALLERS)(find)

    def access(self, identity: Identity) -> Access:
        """Return the access of a caller, by the grants of the configuration and of the tailnet policy."""
        return self._access(identity)


_BySource = dict[str, dict[tuple[int, int], Capability]]


def _find_access(by_source: _BySource, providers: frozenset[str], identity: Identity) -> Access:
    granted = {
        position: capability
        for source in sources(identity)
        for position, capability in by_source.get(source, {}).items()
    }
    own = (granted[position] for position in sorted(granted))
    return Access((*own, *identity.capabilities), providers)


def _by_source(grants: Sequence[Grant]) -> _BySource:
    """Return, for each source, the capabilities by their position in the configuration.

    A position is a pair: the index of the grant, and the index of the capability in this grant. With this mapping, a
    caller's access can be computed without checking every grant.
    """
    by_source: _BySource = {}
    for outer, grant in enumerate(grants):
        for source in grant.src:
            positions = by_source.setdefault(source, {})
            positions.update({(outer, inner): capability for inner, capability in enumerate(grant.capabilities)})
    return by_source


def sources(identity: Identity) -> frozenset[str]:
    """Return all values of a grant's `src` that match this caller."""
    joined = ",".join(sorted(identity.tags))
    groups = identity.groups
    return frozenset({"*", identity.login, *groups, *(f"group:{group}" for group in groups)} | ({joined} - {""}))


def applies(capability: Capability, name: str) -> bool:
    """Return whether a capability applies to the model `name` (`provider/model`).

    A capability without model patterns applies to all models.
    """
    return not capability.models or any(matches(pattern, name) for pattern in capability.models)
