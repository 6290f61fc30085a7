"""Lets the provider's plugin place cache marks into requests whose client has placed none (`auto_cache` of a provider).

- Clients of some APIs cannot ask for prompt caching. So models that cache only what is marked charge the full price of
  the whole conversation in every turn.
- A call gets marks if an earlier call of its session, at the same provider and model, began within the lifetime of a
  cache entry. So a single call does not pay for a cache entry that nobody reads, and neither does a session whose calls
  are so far apart that each entry expires unread.
- The earlier calls are remembered in memory. After a restart, the first call of each session gets no marks.
- Requests to count tokens get no marks. Neither do models with a known price of input and an unknown price of cache
  writes, because marks would make the known cost of their calls unknown.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Final

from gateway.call.auto_caching import is_on, is_priced, lifetime_at
from gateway.call.chain import Attempt, AttemptNext, Call
from gateway.call.responses import Response
from gateway.config.model import CacheLifetime
from gateway.contract.conversions import GENERATE
from gateway.contract.losses import Way
from gateway.upstream.process_pool import DropRelay, ProcessPool

MAX_REMEMBERED: Final = 20_000
"""Maximum number of pairs of a session and a model that are remembered. They take about 10 MB of memory. The one whose
last call is the oldest is forgotten first."""
_SECONDS: Final[Mapping[CacheLifetime, float]] = {"5m": 300.0, "1h": 3600.0}

Conversation = tuple[str, str, str, str]
"""A session at one model: the caller's login, the id of the session, the provider and the model."""


@dataclass(slots=True)
class LastCalls:
    """The times at which the last calls of sessions began."""

    clock: Callable[[], float] = monotonic
    _began: OrderedDict[Conversation, float] = field(default_factory=OrderedDict)

    def is_recent(self, conversation: Conversation, lifetime: CacheLifetime) -> bool:
        """Return whether the last call of the conversation began less than `lifetime` ago."""
        began = self._began.get(conversation)
        return began is not None and self.clock() - began < _SECONDS[lifetime]

    def put(self, conversation: Conversation, began: float) -> None:
        """Remember that a call has begun at this time of the clock."""
        self._began[conversation] = began
        self._began.move_to_end(conversation)
        if len(self._began) > MAX_REMEMBERED:
            self._began.popitem(last=False)


@dataclass(frozen=True, slots=True)
class AutoCache:
    last: LastCalls
    pool: ProcessPool

    async def __call__(self, call: Call, attempt: Attempt, following: AttemptNext) -> Response:
        candidate = attempt.candidate
        provider, target = candidate.offer.provider, candidate.target
        if (
            not is_on(provider, has_marks=call.flag.has_cache_marks)
            or not target.caps.cache_points
            or attempt.request.operation != GENERATE
            or candidate.way is Way.ESTIMATE
        ):
            return await following(call, attempt)
        lifetime = lifetime_at(provider, target.caps)
        if not is_priced(call.runtime.prices.of(provider, target.model), lifetime):
            return await following(call, attempt)
        conversation = call.identity.login, call.session_id, target.provider, target.model
        began = self.last.clock()
        if self.last.is_recent(conversation, lifetime):
            drop = DropRelay(attempt.drop)
            size = len(attempt.request.top.body)
            work = candidate.flag.mark_cache, attempt.request, target, lifetime
            marked = await self.pool.run(size, drop, *work)
            if marked is not None:
                attempt.request = replace(marked, auto_cached=True)
        response = await following(call, attempt)
        self.last.put(conversation, began)
        return response
