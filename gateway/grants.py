"""Who may use what: the grants of a configuration as plain data, and the three questions that are asked of them.

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

Globs over "provider/model": `*` is any text within one segment, `**` as a whole segment is any number of segments, none
included. Model ids may themselves hold "/" and ":", so `bedrock/**` is what covers ARNs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from gateway.config.model import Capability, Grant, Permission, Role
from gateway.identity import Identity

CALLERS: Final = 1024
"""Identities whose access is remembered: more than a large tailnet has at work at a time."""
DECISIONS: Final = 8192
"""Decisions that are remembered."""
LONGEST: Final = 512
"""Characters of a model's name up to which a decision is remembered: clients choose names, and memory is ours."""

Headers = tuple[tuple[str, str], ...]


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


class Grants:
    """Answers for one configuration. Models of providers that are not declared are never allowed."""

    def __init__(self, grants: Sequence[Grant], provider_ids: Iterable[str]) -> None:
        self._by_source = _by_source(grants)
        self._providers = frozenset(provider_ids)
        self.access = lru_cache(CALLERS)(self._access)
        self._allows = lru_cache(DECISIONS)(self.decide)
        self._headers = lru_cache(DECISIONS)(self._find_headers)

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
        )

    def _find_headers(self, identity: Identity, provider: str, model: str) -> Headers:
        name = f"{provider}/{model}"
        return tuple(
            header
            for capability in self.access(identity).headed
            if applies(capability, name)
            for header in capability.add_headers
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


def matches(pattern: str, name: str) -> bool:
    """A glob over "provider/model"."""
    return _glob(pattern.split("/"), name.split("/"), "**", _segment_matches)


def covers_provider(pattern: str, provider: str) -> bool:
    """Some model of the provider could match."""
    head, slash, _ = pattern.partition("/")
    return head == "**" or (bool(slash) and _segment_matches(head, provider))


def _segment_matches(pattern: str, text: str) -> bool:
    return _glob(pattern, text, "*", operator.eq)


def _glob(pattern: Sequence[str], text: Sequence[str], star: str, same: Callable[[str, str], bool]) -> bool:
    """Greedy matching that only ever goes back to the last star: no pattern makes it slow, as a regex could be."""
    at = seen = resume = 0
    last_star = -1
    while seen < len(text):
        if at < len(pattern) and pattern[at] == star:
            last_star, resume = at, seen
            at += 1
        elif at < len(pattern) and same(pattern[at], text[seen]):
            at += 1
            seen += 1
        elif last_star >= 0:
            resume += 1
            at, seen = last_star + 1, resume
        else:
            return False
    return all(rest == star for rest in pattern[at:])
