"""Adds cache marks to requests of clients that set none (`auto_cache` of a provider).

A cache mark is a field in a prompt, such as `cache_control`. It asks the provider to cache the prompt from its
beginning up to this field.

- Clients of some APIs cannot set cache marks, and some models cache only marked input. Without marks, such a client
  pays the full price of the whole conversation in every turn.
- A call gets marks only if the previous call of its session, at the same provider and model, began within the lifetime
  of a cache entry. After a longer pause the entry has expired unread, so that writing it was wasted.
- If marks cost more than they saved in several calls in a row, the session gets no more marks until it pauses. This
  happens if no cache entry is ever read, for example because each prompt begins with the time of day.
- The previous calls are remembered in memory. After a restart, the first call of each session gets no marks.
- Requests to count tokens get no marks.
- A model gets no marks if its input has a price but its cache entries have none, because the cost would become unknown.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from time import monotonic
from typing import Final, NamedTuple

import msgspec

from gateway.call.auto_caching import is_on, is_priced, lifetime_at
from gateway.call.chain import Attempt, AttemptNext, Call
from gateway.call.responses import Response
from gateway.config.model import CacheLifetime
from gateway.contract.conversions import GENERATE
from gateway.contract.flag import Usage
from gateway.contract.losses import Way
from gateway.upstream.process_pool import DropRelay, ProcessPool

MAX_REMEMBERED: Final = 20_000
"""Maximum number of conversations (a session at one model) whose last call is remembered. They take about 10 MB of
memory. The conversation whose last call is the oldest is forgotten first."""
MAX_LOSSES: Final = 3
"""Number of losses in a row after which a session gets no more cache marks. A loss is a call whose cache marks cost
more than they saved. The first call with cache marks is always a loss, because it only writes to the cache."""
_SECONDS: Final[Mapping[CacheLifetime, float]] = {"5m": 300.0, "1h": 3600.0}
_SURCHARGE: Final[Mapping[CacheLifetime, float]] = {"5m": 0.25, "1h": 1.0}
"""Surcharge for writing a token to the cache, as a fraction of the price of plain input (Anthropic, AWS)."""
_SAVING: Final = 0.9
"""The discount for a token that is read from the cache, as a fraction of the price of an input token. 0.9 means that it
costs a tenth.
"""

Conversation = tuple[str, str, str, str]
"""A session at one model: the caller's login, the id of the session, the provider and the model."""


class _Last(NamedTuple):
    """The remembered facts about a conversation's last call."""

    began: float
    losses: int
    """Number of consecutive calls, up to the last one, whose cache marks cost more than they saved."""


class LastCalls(msgspec.Struct):
    """The last call of each conversation. `clock` returns the time in seconds."""

    clock: Callable[[], float] = monotonic
    _last: OrderedDict[Conversation, _Last] = msgspec.field(default_factory=OrderedDict)

    def may_mark(self, conversation: Conversation, lifetime: CacheLifetime) -> bool:
        """Return whether cache marks in the conversation's next call will probably save money.

        The result is False if the last call began more than `lifetime` ago, or if cache marks cost more than they saved
        in each of the last `MAX_LOSSES` calls.
        """
        last = self._last.get(conversation)
        return last is not None and self._is_recent(last, lifetime) and last.losses < MAX_LOSSES

    def put(self, conversation: Conversation, began: float, lifetime: CacheLifetime) -> None:
        """Remember that a call of the conversation began at the time `began`, by `clock`.

        If the previous call began more than `lifetime` ago, set the number of calls with losses (`_Last.losses`) to 0.
        """
        last = self._last.get(conversation)
        losses = last.losses if last is not None and self._is_recent(last, lifetime) else 0
        self._last[conversation] = _Last(began, losses)
        self._last.move_to_end(conversation)
        if len(self._last) > MAX_REMEMBERED:
            self._last.popitem(last=False)

    def learn(self, conversation: Conversation, usage: Usage, lifetime: CacheLifetime) -> None:
        """Count whether cache marks cost more than they saved in the conversation's last call. `usage` is the usage of
        that call.
        """
        if (last := self._last.get(conversation)) is not None:
            losses = last.losses + 1 if _is_loss(usage, lifetime) else 0
            self._last[conversation] = last._replace(losses=losses)

    def _is_recent(self, last: _Last, lifetime: CacheLifetime) -> bool:
        return self.clock() - last.began < _SECONDS[lifetime]


def _is_loss(usage: Usage, lifetime: CacheLifetime) -> bool:
    """Return whether the cache writes of a call cost more than its cache reads saved, at usual prices."""
    written = usage.cache_write_5m + usage.cache_write_1h
    return written * _SURCHARGE[lifetime] > usage.cache_read * _SAVING


class AutoCache(msgspec.Struct, frozen=True):
    last: LastCalls
    pool: ProcessPool

    def __call__(self, call: Call, attempt: Attempt, following: AttemptNext) -> Awaitable[Response]:
        candidate = attempt.candidate
        provider, target = candidate.offer.provider, candidate.target
        if (
            not is_on(provider, has_marks=call.flag.has_cache_marks)
            or not target.caps.cache_points
            or attempt.request.operation != GENERATE
            or candidate.way is Way.ESTIMATE
        ):
            return following(call, attempt)
        lifetime = lifetime_at(provider, target.caps)
        if not is_priced(call.runtime.prices.of(provider, target.model), lifetime):
            return following(call, attempt)
        return self._marked(call, attempt, lifetime, following)

    async def _marked(self, call: Call, attempt: Attempt, lifetime: CacheLifetime, following: AttemptNext) -> Response:
        """Run the next step with cache marks in the request, if they will probably save money."""
        candidate, target = attempt.candidate, attempt.candidate.target
        conversation = call.identity.login, call.session_id, target.provider, target.model
        began = self.last.clock()
        if self.last.may_mark(conversation, lifetime):
            drop = DropRelay(attempt.drop)
            size = len(attempt.request.top.body)
            work = candidate.flag.mark_cache, attempt.request, target, lifetime
            marked = await self.pool.run(size, drop, *work)
            if marked is not None:
                attempt.request = replace(marked, auto_cached=True)
        response = await following(call, attempt)
        self.last.put(conversation, began, lifetime)
        if attempt.request.auto_cached:
            call.stack.callback(self._learn, attempt, conversation, lifetime)
        return response

    def _learn(self, attempt: Attempt, conversation: Conversation, lifetime: CacheLifetime) -> None:
        """Remember whether cache marks saved money. This runs after the end of the call, when its usage is known."""
        if attempt.metering is not None and attempt.metering.facts.reported:
            self.last.learn(conversation, attempt.metering.facts.usage, lifetime)
