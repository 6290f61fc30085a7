"""The agent of a call: the client program that sent the call, such as `claude-cli`. The rules are in `agents.json`.

- There are three kinds of rules. The first kind compares the beginning of the `User-Agent` header. The second kind
  looks for a header that only one program sends. The third kind compares two headers: only one program gives both of
  them the same value.
- The first rule that matches is used. Therefore the file lists a program before the SDK that the program uses, and an
  SDK before general HTTP clients.
- Agents are labels of metrics and of usage totals, so their number is bounded. They are the names in `agents.json`, and
  "other" for every other client. If no rule matches and the request has no `User-Agent` header, the agent is "".
- Each rule states its source: a capture of the client's requests, or the client's repository.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from gateway.contract.small_cache import small_cache

OTHER: Final = "other"
MAX_USER_AGENT: Final = 500
"""Maximum number of characters of a `User-Agent` header that are compared. All known headers are shorter."""


class Rule(NamedTuple):
    """One rule of `agents.json`."""

    agent: str
    user_agent: re.Pattern[str] | None
    """Pattern for the beginning of the `User-Agent` header. It is None for a rule about another header."""
    header: str
    """Lower-case name of a header that only the program `agent` sends. It is "" for a rule about the `User-Agent`
    header.
    """
    equal_to: tuple[str, ...]
    """Names of other headers, one of which must have the same value as `header`. If the tuple is empty, any value of
    `header` matches, except "".
    """
    cache_key: bool
    """True if the program sends a new `prompt_cache_key` in each session. The key then identifies the session."""

    def matches(self, headers: Mapping[str, str]) -> bool:
        """Return whether a request with these headers matches the rule.

        Call this only if the rule has a `header` and the request contains that header. Otherwise `KeyError` is raised.
        """
        value = headers[self.header]
        return bool(value) and (not self.equal_to or any(headers.get(name) == value for name in self.equal_to))


def _rule(row: Mapping[str, Any]) -> Rule:
    pattern = row.get("user_agent")
    return Rule(
        agent=row["agent"],
        user_agent=re.compile(pattern, re.IGNORECASE) if pattern else None,
        header=row.get("header", ""),
        equal_to=tuple(row.get("equal_to", ())),
        cache_key=row.get("cache_key", False),
    )


RULES: Final = tuple(map(_rule, orjson.loads(Path(__file__).with_name("agents.json").read_bytes())))
AGENTS: Final = frozenset({rule.agent for rule in RULES} | {OTHER, ""})
"""All values that the function `agent` may return."""
WITH_CACHE_KEYS: Final = frozenset(rule.agent for rule in RULES if rule.cache_key)
"""Agents that send a new `prompt_cache_key` in each session. Other clients use one key for several sessions."""


def agent(headers: Mapping[str, str]) -> str:
    """Return the agent that sent a request with these headers. The names of the headers must be in lower case."""
    name = headers.get("user-agent", "")
    first = _by_user_agent(name[:MAX_USER_AGENT])
    if any(map(headers.__contains__, _RULED_HEADERS)):  # few requests have one
        ruled = (at for at, rule in _HEADER_RULES if at < first and rule.header in headers and rule.matches(headers))
        first = next(ruled, first)
    if first < len(RULES):
        return RULES[first].agent
    return OTHER if name else ""


_HEADER_RULES: Final = tuple((at, rule) for at, rule in enumerate(RULES) if rule.header)
_RULED_HEADERS: Final = tuple({rule.header for _, rule in _HEADER_RULES})


@small_cache(256, MAX_USER_AGENT)
def _by_user_agent(name: str) -> int:
    """Return the index of the first rule that matches a `User-Agent` header.

    If no rule matches, return the number of rules.
    """
    matching = (at for at, rule in enumerate(RULES) if rule.user_agent and rule.user_agent.match(name))
    return next(matching, len(RULES))
