"""The access of each caller, computed from the grants of the configuration and of the tailnet policy.

- A caller has no access without a grant. Grants never take access away.
- To use a model, a caller needs a role and a pattern that matches the model. The role and the pattern may come from two
  different grants.
- The role `admin` outranks `user`. No role includes a permission, such as `read_metrics`. A permission is valid
  without a role.
- Each configuration has its own `Grants`, so a cached result is never outdated.

Aperture's documentation defines the sources (`src`) of a grant:

* `*` matches every caller.
* A login matches the caller with exactly this login. The login of a tagged node is all its tags, sorted and joined by
  ",". So `tag:api,tag:prod` matches a node with exactly these two tags. A node that gets another tag has another login.
* `group:x` matches every caller in the group `x` or `group:x`. The name of a group from
  SCIM may be its mail address.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from typing import Final, NamedTuple

from gateway.access.identity.caller import Identity
from gateway.config.fields import ALL_HEADERS
from gateway.config.model import Capability, Grant, Permission, Role
from gateway.contract.globs import covers_provider, matches
from gateway.money.quotas.definitions import Chain, RateLimit, merged_chains

MAX_CALLERS: Final = 1024
"""Maximum number of callers whose access is cached."""
MAX_MODELS: Final = 64
"""Maximum number of models whose access is cached for each caller. Few callers use more."""

Headers = tuple[tuple[str, str], ...]
Limits = tuple[tuple[RateLimit, tuple[str, ...]], ...]


class Patterns:
    """Globs that match names of the form "provider/model".

    Globs are grouped by their text before the first star. So a name is compared with few of them.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._exact: set[str] = set()
        self._prefixes: set[str] = set()
        """Prefixes that are enough for a match: "bedrock/" for the glob `bedrock/**`, and "" for `**`."""
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
    """The effect of one caller's grants on one model: whether the model is allowed, and its headers, quotas and rate
    limits.
    """

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
        """The highest granted role. It is None for a caller without a role. Such a caller may use no model."""
        self.permissions: frozenset[Permission] = frozenset(
            name for capability in capabilities for name in capability.permissions
        )
        self.all_quotas = tuple(
            dict.fromkeys(name for capability in capabilities for chain in capability.quotas for name in chain)
        )
        """The names of all quotas that may be charged for this caller's requests."""
        self.metered = bool(self.all_quotas) or any(capability.rate_limits for capability in capabilities)
        """True if the caller has a quota or a rate limit."""
        self._filterable_headers = frozenset(
            name for capability in capabilities for name in capability.filterable_headers
        )
        self._direct_paths = tuple(pattern for capability in capabilities for pattern in capability.direct_paths)
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

    def may_filter_by(self, header: str) -> bool:
        """Return whether the caller may filter calls by a recorded header. `header` is its name in lower case."""
        return header in self._filterable_headers or ALL_HEADERS in self._filterable_headers

    def allows_direct(self, method: str, *paths: str) -> bool:
        """Return whether the caller may send a request whose path begins with `/direct`.

        A provider may decode an encoded path in several ways. `paths` has the result of each way. An admin may send
        every request. Any other caller needs a role, and a grant with a pattern that allows the method and matches all
        `paths`.
        """
        if self.role == "admin":
            return True
        return self.role is not None and any(
            method in pattern.methods and all(matches(pattern.path, path) for path in paths)
            for pattern in self._direct_paths
        )

    def select(self, models: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return the (provider, model) pairs in `models` that the caller may use.

        The decisions are not cached, because one list of all models would fill the cache.
        """
        return {model for model in models if self._is_allowed(*model)}

    def headers(self, provider: str, model: str) -> Headers:
        """Return the headers that the caller's grants add to requests for a model."""
        return self._terms(provider, model).headers

    def quotas(self, provider: str, model: str) -> tuple[Chain, ...]:
        """Return the quotas that are charged for requests for a model.

        Each item is a chain of names: a quota, and then its overdraft quotas. If the model is not known, the argument
        `model` is "". Then the result has all quotas that any model of the provider may be charged to.
        """
        return self._terms(provider, model).quotas

    def rate_limits(self, provider: str, model: str) -> Limits:
        """Return the rate limits for a model.

        Each item is a pair: a limit, and the patterns of all models to which this limit applies. If the model is not
        known, the argument `model` is "". Then the result has all limits that apply to any model of the provider.
        """
        return self._terms(provider, model).rate_limits

    def _is_allowed(self, provider: str, model: str) -> bool:
        return self.role is not None and provider in self._providers and self._patterns.match(f"{provider}/{model}")

    def _find_terms(self, provider: str, model: str) -> _Terms:
        name = f"{provider}/{model}"
        fitting = [capability for capability in self._with_terms if applies(capability, name)]
        charged = fitting if model else [one for one in self._with_terms if may_apply(one, provider)]
        return _Terms(
            allowed=self._is_allowed(provider, model),
            headers=tuple(header for capability in fitting for header in capability.add_headers),
            quotas=merged_chains(chain for capability in charged for chain in capability.quotas),
            rate_limits=tuple((limit, capability.models) for capability in charged for limit in capability.rate_limits),
        )


class Grants:
    """The grants of one configuration, and a cache of the callers' access."""

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
    """Return the capabilities of all grants, by the source (`src`) to which they are granted.

    The key of each inner dict is a pair: the index of the grant in `grants`, and the index of the capability in the
    grant. So the capabilities of a caller are found without a check of every grant, and can be put in the order of the
    configuration.
    """
    by_source: _BySource = {}
    for outer, grant in enumerate(grants):
        for source in grant.src:
            positions = by_source.setdefault(source, {})
            positions.update({(outer, inner): capability for inner, capability in enumerate(grant.capabilities)})
    return by_source


def sources(identity: Identity) -> frozenset[str]:
    """Return all values of a grant's `src` that match this caller, such as `*` and the caller's login."""
    joined = ",".join(sorted(identity.tags))
    groups = identity.groups
    return frozenset({"*", identity.login, *groups, *(f"group:{group}" for group in groups)} | ({joined} - {""}))


def applies(capability: Capability, name: str) -> bool:
    """Return whether a capability applies to the model `name` (`provider/model`).

    A capability without model patterns applies to all models.
    """
    return not capability.models or any(matches(pattern, name) for pattern in capability.models)


def may_apply(capability: Capability, provider: str) -> bool:
    """Return whether a capability may apply to at least one model of a provider.

    Only its model patterns are checked, not the names of the provider's models.
    """
    return not capability.models or any(covers_provider(pattern, provider) for pattern in capability.models)
