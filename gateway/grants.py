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
from functools import lru_cache
from typing import Final

from gateway.config.model import Capability, Grant, Permission, Role
from gateway.identity import Identity

CALLERS: Final = 1024
"""Identities whose capabilities are remembered: more than a large tailnet has at work at a time."""
DECISIONS: Final = 8192
"""Decisions that are remembered."""
LONGEST: Final = 512
"""Characters of a model's name up to which a decision is remembered: clients choose names, and memory is ours."""


class Grants:
    """Answers for one configuration. Models of providers that are not declared are never allowed."""

    def __init__(self, grants: Sequence[Grant], provider_ids: Iterable[str]) -> None:
        self._grants = tuple(grants)
        self._providers = frozenset(provider_ids)
        self._capabilities = lru_cache(CALLERS)(self._find_capabilities)
        self._remembered = lru_cache(DECISIONS)(self._decide)

    def role(self, identity: Identity) -> Role | None:
        """None is for a caller that may do nothing at all."""
        roles = {capability.role for capability in self._capabilities(identity)}
        return "admin" if "admin" in roles else "user" if "user" in roles else None

    def allows(self, identity: Identity, provider: str, model: str) -> bool:
        """A role and a matching pattern are both needed; they may come from different grants."""
        decide = self._remembered if len(model) <= LONGEST else self._decide
        return decide(identity, provider, model)

    def may(self, identity: Identity, permission: Permission) -> bool:
        """Said by name only: no role implies it, and it needs no role, for a scraper of metrics has none."""
        return any(permission in capability.permissions for capability in self._capabilities(identity))

    def _find_capabilities(self, identity: Identity) -> tuple[Capability, ...]:
        return tuple(
            capability
            for grant in self._grants
            if any(source_matches(source, identity) for source in grant.src)
            for capability in grant.capabilities
        )

    def _decide(self, identity: Identity, provider: str, model: str) -> bool:
        if provider not in self._providers or self.role(identity) is None:
            return False
        name = f"{provider}/{model}"
        return any(
            matches(pattern, name) for capability in self._capabilities(identity) for pattern in capability.models
        )


def source_matches(source: str, identity: Identity) -> bool:
    """One `src` entry against a caller."""
    if source in {"*", identity.login}:
        return True
    if identity.tags and source == ",".join(sorted(identity.tags)):
        return True
    return source in identity.groups or (
        source.startswith("group:") and source.removeprefix("group:") in identity.groups
    )


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
