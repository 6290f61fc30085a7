"""The choice of a key for each call to a provider with several keys (`apikeys`).

- A session keeps its key, because the provider's prompt cache belongs to the key's account. For the first call of a
  session, the free key with the fewest calls in flight is chosen. If several keys have equally few, the least recently
  chosen one is taken.
- A key that "rests" is not chosen. A throttled key rests only for the model of the attempt, because most providers have
  a separate limit for each model.
- A refused key rests for all models. After some time, a call probes the key. This time doubles with each failed probe.
- If all keys rest, the key that will be free first is chosen. If the provider refuses it, the client gets the
  provider's error.

Each process has its own state, of bounded size. A process that replaces this one takes over the state. If the
provider's configuration changes, all its keys are free again.
No I/O is done here, and no text of a key is given to a log, a record or a metric.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from math import inf
from time import monotonic
from typing import Final

import msgspec

from gateway.config.credentials import PooledKey
from gateway.config.model import Provider
from gateway.contract.errors import RATE_LIMIT, Problem
from gateway.upstream.health.circuit import MAX_DOUBLINGS
from gateway.upstream.health.circuits import MAX_HELD

THROTTLED_SECONDS: Final = 5.0
"""Seconds for which a throttled key is not used if the provider's reply has no `Retry-After`."""
DENIED_SECONDS: Final = 60.0
"""Seconds for which a key is not used for a model if the provider refuses the model for this key (402, 403)."""
MAX_SESSIONS: Final = 10_000
"""Maximum number of sessions for which a pool remembers the key of the last call, to use the same key for the next
call. If there are more sessions, the pool forgets the least recently used one.
"""

_OF_KEY: Final = frozenset({401, 402, 403})
"""Statuses with which a provider refuses a key: the key is invalid (401), its account has no money (402), or the key
gives no access to the model (403)."""

Session = tuple[str, str]
"""The caller's login and the session's id."""


def is_of_key(problem: Problem) -> bool:
    """Return whether a provider refused or throttled a request because of its key, so that another key may work."""
    return problem.code == RATE_LIMIT or problem.key_refused or problem.status in _OF_KEY


class KeyRest(msgspec.Struct, frozen=True):
    """The times for which a key is not used, for the process that replaces this one. All times are durations in
    seconds.
    """

    name: str
    models: dict[str, float]
    """The models for which the key is not used, each with the number of seconds until it is used again."""
    refused: tuple[float, float, int] | None = None
    """The seconds since the provider refused the key, the seconds until the next probe of the key, and the number of
    times that the wait between probes was doubled. The value is None if the key is not refused.
    """


class KeySession(msgspec.Struct, frozen=True):
    """The key that a session uses, as it is handed over to the process that replaces this one."""

    login: str
    session: str
    key: str
    age: float
    """Seconds since the session's last call."""


class PoolState(msgspec.Struct, frozen=True):
    """The state of one provider's keys, as it is handed over to the process that replaces this one."""

    provider: str
    keys: tuple[KeyRest, ...]
    sessions: tuple[KeySession, ...]
    """The sessions with their keys. The session whose last call is the oldest comes first."""


class KeyState:
    """One of several keys of a provider, with the number of its calls in flight, and the times until which the key is
    not used.
    """

    def __init__(self, key: PooledKey, pool: KeyPool) -> None:
        self.name = key.name
        self.secret = key.secret
        self.pool = pool
        self.in_flight = 0
        self.turn = 0
        """The number of the last choice that took this key. The pool numbers all its choices in order."""
        self._rests: dict[str, float] = {}
        """Maps a model to the time until which the key is not used for it."""
        self._refused_at: float | None = None
        self._probe_at = 0.0
        self._doublings = 0
        self._is_probed = False

    @property
    def is_refused(self) -> bool:
        return self._refused_at is not None

    def rest(self, model: str, seconds: float) -> None:
        """Stop using the key for a model. The pause lasts `seconds`, but at most `MAX_HELD` seconds."""
        until = self.pool.clock() + min(seconds, MAX_HELD)
        self._rests[model] = max(until, self._rests.get(model, 0.0))

    def refused(self) -> None:
        """Do not use the key for any model for some time, because the provider refused the key."""
        now, seconds = self.pool.clock(), self.pool.provider.circuit_breaker.open_seconds
        if self._refused_at is None:
            self._refused_at, self._probe_at, self._doublings, self._is_probed = now, now + seconds, 0, False
        elif self._is_probed:
            self._is_probed, self._doublings = False, min(self._doublings + 1, MAX_DOUBLINGS)
            self._probe_at = now + seconds * 2**self._doublings

    def accepted(self, began: float) -> bool:
        """Record that the provider has accepted the key in an attempt. Return whether the key is no longer refused.

        `began` is the time at which the attempt began. If that was before the refusal, the key stays refused.
        """
        if self._refused_at is not None and began >= self._refused_at:
            self._refused_at = None
        return not self.is_refused

    def forgive(self) -> None:
        """Let the key be used again for all models."""
        self._rests.clear()
        self._refused_at = None

    def free_in(self, model: str) -> float:
        """Return the seconds until a call of the model may use the key, or 0 if the key is free now."""
        until = self._rests.get(model, 0.0)
        if self._refused_at is not None:
            until = max(until, self._probe_at)
        return max(0.0, until - self.pool.clock())

    def remembered(self, now: float) -> KeyRest:
        """Return the times for which the key is not used, for the process that replaces this one."""
        models = {model: until - now for model, until in self._rests.items() if until > now}
        if self._refused_at is None:
            return KeyRest(self.name, models)
        return KeyRest(self.name, models, (now - self._refused_at, max(0.0, self._probe_at - now), self._doublings))

    def adopt(self, former: KeyRest, now: float) -> None:
        """Continue with the state that the key had in the replaced process."""
        self._rests = {model: now + min(max(0.0, left), MAX_HELD) for model, left in former.models.items()}
        if former.refused is not None:
            age, left, doublings = former.refused
            longest = self.pool.provider.circuit_breaker.open_seconds * 2**MAX_DOUBLINGS
            self._refused_at, self._probe_at = now - max(0.0, age), now + min(max(0.0, left), longest)
            self._doublings = min(max(0, doublings), MAX_DOUBLINGS)

    def taken(self, turn: int) -> None:
        """Record that the key was chosen for a call. `turn` is the number of the choice: the pool numbers all its
        choices in order.

        If the provider has refused the key, the call is a probe. The next probe is made only after a wait.
        """
        self.turn = turn
        if self._refused_at is not None:
            self._is_probed = True
            seconds = self.pool.provider.circuit_breaker.open_seconds
            self._probe_at = self.pool.clock() + seconds * 2**self._doublings


class KeyPool:
    """The keys of one provider."""

    def __init__(self, provider: Provider, clock: Callable[[], float]) -> None:
        self.provider = provider
        self.clock = clock
        self.states: list[KeyState] = [KeyState(key, self) for key in provider.apikeys]
        self._turns = count(1)
        self._sessions: OrderedDict[Session, tuple[float, KeyState]] = OrderedDict()
        """Maps a session to the time and the key of its last call."""

    def configured(self, provider: Provider) -> None:
        """Use another configuration of the provider. If it differs from the old one, all keys are free again.

        A key that is also in the new configuration keeps its sessions and the number of its calls in flight.
        """
        if provider is self.provider:
            return
        if provider.as_written != self.provider.as_written:
            kept = {(state.name, state.secret): state for state in self.states}
            self.states = [kept.get((key.name, key.secret)) or KeyState(key, self) for key in provider.apikeys]
            for state in self.states:
                state.forgive()
        self.provider = provider

    def free(self, model: str, session: Session, sticky_seconds: float) -> KeyState | None:
        """Choose a free key for a call. Return the key, or None if no key is free.

        The caller must increase the key's `in_flight`, and decrease it when the call ends.
        """
        free = [state for state in self.states if not state.free_in(model)]
        return self._take(self._of_session(free, session, sticky_seconds), session) if free else None

    def next_free(self, model: str, session: Session) -> KeyState:
        """Choose the key that will be free first, and return it. This is for a call that comes while no key is free."""
        return self._take(min(self.states, key=lambda state: (state.is_refused, state.free_in(model))), session)

    @property
    def are_all_refused(self) -> bool:
        return all(state.is_refused for state in self.states)

    def free_in(self, model: str) -> float:
        """Return the seconds until a key is free for a model, or infinity if all keys are refused."""
        return min((state.free_in(model) for state in self.states if not state.is_refused), default=inf)

    def remembered(self, most: int) -> PoolState:
        """Return the state of the keys for the process that replaces this one, with at most `most` sessions."""
        now = self.clock()
        sessions = [KeySession(*session, state.name, now - at) for session, (at, state) in self._sessions.items()]
        keys = tuple(state.remembered(now) for state in self.states)
        return PoolState(self.provider.id, keys, tuple(sessions[-most:]))

    def adopt(self, former: PoolState) -> None:
        """Continue with the state that the keys had in the replaced process."""
        now, states = self.clock(), {state.name: state for state in self.states}
        for key in former.keys:
            if key.name in states:
                states[key.name].adopt(key, now)
        for one in former.sessions[-MAX_SESSIONS:]:
            if one.key in states:
                self._sessions[one.login, one.session] = now - max(0.0, one.age), states[one.key]

    def _of_session(self, free: list[KeyState], session: Session, sticky_seconds: float) -> KeyState:
        at, last = self._sessions.get(session, (-inf, None))
        if last is not None and last in free and self.clock() - at < sticky_seconds:
            return last
        return min(free, key=lambda state: (state.in_flight, state.turn))

    def _take(self, state: KeyState, session: Session) -> KeyState:
        state.taken(next(self._turns))
        self._sessions[session] = self.clock(), state
        self._sessions.move_to_end(session)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return state


class KeyPools:
    """The pools of all providers that have several keys. `clock` returns the time of a monotonic clock in seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._pools: dict[str, KeyPool] = {}

    def of(self, provider: Provider) -> KeyPool:
        """Return the pool of a provider that has several keys."""
        pool = self._pools.get(provider.id)
        if pool is None:
            pool = self._pools[provider.id] = KeyPool(provider, self._clock)
        pool.configured(provider)
        return pool

    def remembered(self) -> tuple[PoolState, ...]:
        """Return the state of the keys of each provider, for the process that replaces this one.

        `MAX_SESSIONS` is divided equally among the providers, with at least one session for each.
        """
        most = max(1, MAX_SESSIONS // max(1, len(self._pools)))
        return tuple(pool.remembered(most) for pool in self._pools.values())

    def adopt(self, former: Sequence[PoolState], providers: Iterable[Provider]) -> None:
        """Take over the state of the keys of `providers` from the process that this one replaces."""
        pools = {one.provider: one for one in former}
        for provider in providers:
            if provider.apikeys and provider.id in pools:
                self.of(provider).adopt(pools[provider.id])
