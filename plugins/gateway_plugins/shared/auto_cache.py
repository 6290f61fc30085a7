"""Rules for the cache marks that the gateway itself places (`Flag.mark_cache`), for every dialect that has such marks.

- Marks are placed after the tools, after the system prompt, and at the end of two turns of the user: the last one, and
  the one before the model's last turn. The first call with marks writes the whole prompt to the cache. In the next
  call, the earlier of the two turns ends exactly where the prompt of the call before ended. So the provider finds the
  entry, even if it looks back only a few blocks (20 at Anthropic) or not at all.
- A mark does not change the prompt before it. So marks that move from turn to turn do not invalidate an entry.
- Below a minimum of tokens, a model does not cache, and ignores a mark without an error. Marks on shorter beginnings of
  a prompt are left out.

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

FEATURE: Final = "cache_marks"
"""The name of the marks in `ClientRequest.without`, if the provider has refused them for a model."""
BYTES_PER_TOKEN: Final = 3
"""Number of bytes of JSON that count as one token. English text and code have about four, so the number of tokens is
rather too high, and a useless mark is rather placed than a useful one left out."""
_REFUSALS: Final = ("cache_control", "cachepoint", "cache point", "prompt caching")
"""Words in a provider's message that refuses cache marks, in lower case.

Bedrock's messages are "You invoked an unsupported model or your request did not allow prompt caching", "You don't have
access to explicit prompt caching" and "extraneous key [cachePoint] is not permitted"."""
_CODES: Final = (errors.INVALID_REQUEST, errors.PERMISSION)


class Turns(NamedTuple):
    """Indexes of the messages at whose ends marks are placed; None if there is no such message."""

    last: int | None
    """The user's last message."""
    before: int | None
    """The user's last message before the model's last turn, with which the prompt of the call before ended."""

    @classmethod
    def of(cls, roles: Sequence[object]) -> Turns:
        """Return the turns among messages with these roles.

        A turn of the assistant that the model is to continue gets no mark, because the continued text would follow it.
        """
        last = _last(roles, "user", len(roles))
        answer = None if last is None else _last(roles, "assistant", last)
        return cls(last, None if answer is None else _last(roles, "user", answer))


def _last(roles: Sequence[object], role: str, end: int) -> int | None:
    return next((index for index in range(end - 1, -1, -1) if roles[index] == role), None)


def is_possible(request: ClientRequest, caps: Caps) -> bool:
    """Return whether the model can cache, and the provider has not refused marks for it."""
    return caps.cache_points and FEATURE not in request.without


def is_enough(size: int, caps: Caps) -> bool:
    """Return whether a beginning of a prompt with `size` bytes may have the tokens that the model's cache needs."""
    return size // BYTES_PER_TOKEN >= caps.cache_min_tokens


def ttl(lifetime: str, caps: Caps) -> dict[str, str]:
    """Return the field for the lifetime of a mark; {} for the usual lifetime, which every model has."""
    return {"ttl": HOUR} if lifetime == HOUR and caps.cache_ttl else {}


def retried(request: ClientRequest, problem: Problem, unmarked: Callable[[Members], Members]) -> ClientRequest | None:
    """Return the request without the gateway's marks if the provider has refused them; None for any other problem.

    `unmarked` removes the marks from the body.
    """
    message = problem.message.lower()
    if not (request.auto_cached and problem.code in _CODES and any(word in message for word in _REFUSALS)):
        return None
    without = (*request.without, FEATURE)
    return replace(request, top=unmarked(request.top), auto_cached=False, without=without)
