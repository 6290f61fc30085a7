"""Rules for the cache marks that the gateway itself adds to requests (`Flag.mark_cache`).

A cache mark is Anthropic's `cache_control` or Converse's `cachePoint`: the provider caches the prompt up to the mark.

- Marks are placed after the tools, after the system prompt, after the user's last message, and after the user message
  before the model's last turn.
- The previous request of the conversation ended with this user message, and had a mark there. So the provider finds the
  cache entry of the previous request, even if it looks back only a few blocks (20 at Anthropic) or not at all.
- A mark does not change the prompt before it. So a cache entry stays valid when the marks move on with the next turn.
- A model ignores a mark if the prompt before the mark has too few tokens. The gateway leaves out such marks.

The modules `auto_cache` of the dialects place the marks. Source: Anthropic's documentation (prompt caching), AWS's user
guide (prompt caching).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from gateway.contract import errors
from gateway.contract.errors import Problem
from gateway.contract.flag import Caps, ClientRequest, Members
from gateway_plugins.shared.cache_marks import HOUR
from gateway_plugins.shared.raw_lists import RawList

FEATURE: Final = "cache_marks"
"""Name that is added to `ClientRequest.without` when the provider has refused the gateway's cache marks."""
BYTES_PER_TOKEN: Final = 3
"""Number of bytes of JSON that are counted as one token, to estimate whether a prompt is long enough for the cache.

English text and code have about four bytes per token. With three, the estimated number of tokens is usually too high.
This is intended: a useless cache mark does less harm than a missing one."""
_REFUSALS: Final = ("cache_control", "cachepoint", "cache point", "prompt caching")
"""Words in lower case by which a provider's message is recognized as a refusal of cache marks.

Bedrock's messages are "You invoked an unsupported model or your request did not allow prompt caching", "You don't have
access to explicit prompt caching" and "extraneous key [cachePoint] is not permitted"."""
_CODES: Final = (errors.INVALID_REQUEST, errors.PERMISSION)


class Turns(NamedTuple):
    """Indexes of the two messages that get a cache mark at their end. An index is None if there is no such message."""

    last: int | None
    """Index of the user's last message."""
    before: int | None
    """Index of the user's last message before the model's last turn. The prompt of the previous call ended with this
    message."""

    @classmethod
    def of(cls, roles: Sequence[object]) -> Turns:
        """Return the indexes of the messages to mark. `roles` has the roles of all messages.

        An assistant message at the end gets no mark. The model continues this message, so the mark would be in its
        middle.
        """
        last = _last(roles, "user", len(roles))
        answer = None if last is None else _last(roles, "assistant", last)
        return cls(last, None if answer is None else _last(roles, "user", answer))


def marked_turns(raw: bytes, marked: Callable[[bytes], bytes | None]) -> bytes | None:
    """Return the list of messages `raw` (JSON text) with a cache mark at the end of the messages chosen by `Turns.of`.

    `marked` adds the mark to the content of one message. It returns None if the content cannot have a mark. If no
    message gets a mark, the result is None.
    """
    given = RawList(raw)
    messages = list(map(Members, given.items))
    changes: dict[int, bytes] = {}
    for index in Turns.of([message.small("role") for message in messages]):
        if index is None or "content" not in messages[index]:
            continue
        content = marked(messages[index]["content"])
        if content is not None:
            changes[index] = messages[index].replaced("content", content).body
    return given.changed(changes) if changes else None


def _last(roles: Sequence[object], role: str, end: int) -> int | None:
    return next((index for index in range(end - 1, -1, -1) if roles[index] == role), None)


def is_possible(request: ClientRequest, caps: Caps) -> bool:
    """Return whether the model can cache, and the provider has not refused the gateway's cache marks for this model."""
    return caps.cache_points and FEATURE not in request.without


def is_enough(size: int, caps: Caps) -> bool:
    """Return whether the first `size` bytes of a prompt may have enough tokens for the model's cache."""
    return size // BYTES_PER_TOKEN >= caps.cache_min_tokens


def ttl(lifetime: str, caps: Caps) -> dict[str, str]:
    """Return the field `ttl` of a cache mark, for the lifetime of an hour.

    Return {} for the default lifetime, and for a model that supports only the default lifetime.
    """
    return {"ttl": HOUR} if lifetime == HOUR and caps.cache_ttl else {}


def retried(request: ClientRequest, problem: Problem, unmarked: Callable[[Members], Members]) -> ClientRequest | None:
    """Return the request for a retry, without the gateway's cache marks. `unmarked` removes the marks from the body.

    Return None if the provider did not refuse the marks.
    """
    message = problem.message.lower()
    if not (request.auto_cached and problem.code in _CODES and any(word in message for word in _REFUSALS)):
        return None
    without = (*request.without, FEATURE)
    return replace(request, top=unmarked(request.top), auto_cached=False, without=without)
