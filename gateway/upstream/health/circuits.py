"""The circuit breakers of all models at all providers, with the last success and the last error of each model.

- A model or provider that "rests" gets no attempts.
- If a provider refuses the gateway's key, all its models rest, because they share the key. From time to time, one call
  is sent to find out whether the key is accepted again.
- A provider that throttles (429) has not failed, so its reply does not count as a failure. The model rests only if the
  reply says for how long (`Retry-After`), and at most `MAX_HELD` seconds.
- A circuit also opens if the model fails much more often than its peers: the other models that can serve its calls
  (`Peers`).
- If all models that could serve a call rest, the first one is tried all the same. The caller of this module does this.
- Each process has its own state. A reload of the configuration keeps the state of a provider if its base URL and
  credential stay the same. A process that replaces this one takes over the resting models and providers.

`may_try` and `ended` are called on the event loop for every attempt. They create no object for a healthy provider.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from time import monotonic, time
from typing import Final

import msgspec

from gateway.config.model import CircuitBreaker, Config, Provider
from gateway.upstream.health.circuit import MAX_DOUBLINGS, Circuit
from gateway.upstream.health.peers import Key, Peers, peers_of
from gateway.upstream.health.standings import Change, Failure, HealthState, ModelState, RestState, Standing
from gateway.upstream.health.ways import way

MAX_HELD: Final = 60.0
"""Maximum number of seconds for which a model gets no attempts because of a provider's `Retry-After`. Some providers
send a wait of hours because of a quota that does not concern all calls.
"""
OUTLIER_CALLS: Final = 4
"""Factor by which `CircuitBreaker.calls` is multiplied. The product is the number of attempts that are needed to
compare the failure rate of a model with that of its peers.

The model must have had at least this number of attempts, and its peers together must also have had at least this
number. With fewer attempts, a difference may be chance.
"""
MAX_WORDS: Final = 300
"""Maximum number of characters of an error's message that are kept."""


class _Rest(msgspec.Struct):
    """The period in which a provider gets no calls, because it has refused the gateway's key."""

    since: float
    until: float
    doublings: int = 0
    is_probed: bool = False
    """True if an attempt was let through since the last refusal, to find out if the provider accepts the key again."""


class _Memory(msgspec.Struct):
    """The circuit breaker of one model at one provider, with the model's last success and last error."""

    circuit: Circuit
    succeeded_at: float | None = None
    failure: Failure | None = None


class Health:
    """The health of all models at all providers. `clock` returns the time of a monotonic clock in seconds."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], float] = monotonic,
        changed: Callable[[Change], object] = lambda _change: None,
    ) -> None:
        self._clock = clock
        self.changed = changed
        """The function that is called with each change of a state."""
        self._memories: dict[Key, _Memory] = {}
        self._rests: dict[str, _Rest] = {}
        self._providers: Mapping[str, Provider] = {}
        self._peers = Peers({})
        self.configured(config)

    def configured(self, config: Config, peers: Peers | None = None) -> None:
        """Use another configuration. A provider with another base URL or credential starts as healthy.

        `peers` is the result of `peers_of(config)`. If `peers` is None, it is computed here.
        """
        former, self._providers = self._providers, config.providers
        self._peers = peers_of(config) if peers is None else peers
        same = {
            id_ for id_, provider in config.providers.items() if id_ in former and way(provider) == way(former[id_])
        }
        self._memories = {
            key: memory for key, memory in self._memories.items() if key[0] in same and key in self._peers
        }
        self._rests = {
            id_: rest
            for id_, rest in self._rests.items()
            if id_ in same and config.providers[id_].circuit_breaker.enabled
        }
        for (id_, _model), memory in self._memories.items():
            memory.circuit.configured(config.providers[id_].circuit_breaker)

    def may_try(self, provider_id: str, model: str) -> bool:
        """Return whether an attempt may be made. If so, the caller must make the attempt, and then report it (`ended`
        or `throttled`).
        """
        rest = self._rests.get(provider_id) if self._rests else None
        if rest is not None and self._clock() < rest.until:
            return False
        memory = self._memories.get((provider_id, model))
        if (
            memory is not None
            and not memory.circuit.passes_all
            and not self._passes(provider_id, model, memory.circuit)
        ):
            return False
        if rest is not None:
            # this attempt probes the key, and the next one may do so after another rest
            rest.until = self._clock() + self._breaker(provider_id).open_seconds * 2**rest.doublings
            rest.is_probed = True
        return True

    def ended(self, provider_id: str, model: str, *, failed: bool, seconds: float | None) -> None:
        """Record the end of an attempt. `failed` is true if the attempt failed because of the provider.

        `seconds` is the time from the beginning of the attempt to the beginning of the reply or to the failure. It is
        None if the provider refused the request because of the client's mistake. Such an attempt is not counted,
        because it says nothing about the provider.
        """
        memory = self._memories.get((provider_id, model)) or self._remember(provider_id, model)
        circuit, now = memory.circuit, self._clock()
        if failed:
            if provider_id in self._rests:
                # the refused key is the cause, and when another key works, the models shall not rest any longer
                return
            before = circuit.state
            circuit.failed(now, seconds)
            if circuit.state == "closed" and self._is_outlier((provider_id, model), circuit, now):
                circuit.open(now, "outlier")
            if circuit.state != before:
                self._report(provider_id, model, circuit)
        elif seconds is not None:
            memory.succeeded_at = now
            if self._rests:
                self._accept(provider_id, now - seconds)
            if circuit.passes_all:
                circuit.succeeded(now, seconds)
            else:
                before = circuit.state
                circuit.succeeded(now, seconds)
                if circuit.state != before:
                    self._report(provider_id, model, circuit)

    def throttled(self, provider_id: str, model: str, retry_after: float | None) -> None:
        """Count an attempt that the provider throttled. If `retry_after` is given, the model gets no attempts for
        this number of seconds, at most `MAX_HELD`.

        A throttled attempt is no failure, so `ended` is not called for it.
        """
        memory = self._memories.get((provider_id, model)) or self._remember(provider_id, model)
        memory.circuit.throttled(self._clock(), min(retry_after or 0.0, MAX_HELD))

    def key_refused(self, provider_id: str) -> None:
        """Remember that a provider refused the gateway's key.

        The provider's models get no attempts, except probes, until an attempt succeeds.
        """
        breaker, now = self._breaker(provider_id), self._clock()
        if not breaker.enabled:
            return
        rest = self._rests.get(provider_id)
        if rest is None:
            rest = self._rests[provider_id] = _Rest(now, now + breaker.open_seconds)
            self.changed(Change(provider_id, "", "open", "key_refused", 0, 0, breaker.open_seconds))
        elif rest.is_probed:
            rest.is_probed, rest.doublings = False, min(rest.doublings + 1, MAX_DOUBLINGS)
            rest.until = now + breaker.open_seconds * 2**rest.doublings

    def note(self, provider_id: str, model: str, code: str, message: str) -> None:
        """Keep the error of an attempt, to show it to people. The caller ensures that the message contains no key."""
        memory = self._memories.get((provider_id, model)) or self._remember(provider_id, model)
        memory.failure = Failure(time(), code, message[:MAX_WORDS])

    def standings(self) -> list[Standing]:
        """Return the health of each configured model, in the order of the configuration.

        This changes nothing, so it may be called from any thread.
        """
        now, wall = self._clock(), time()
        return [self._standing(key, now, wall) for key in self._peers]

    def resting(self) -> tuple[int, int]:
        """Return two numbers: the models that get no attempts, and how many of them have no substitute.

        A substitute is the same model at another provider, or another target of an alias. Models that are only
        throttled are not counted. This may be called from any thread.
        """
        now = self._clock()
        keys = {key for key, memory in list(self._memories.items()) if memory.circuit.rests(now)}
        refused = set(self._rests)
        keys |= {key for key in self._peers if key[0] in refused} if refused else set()
        return len(keys), sum(not self._peers.has_other(key) for key in keys)

    def remembered(self) -> HealthState:
        """Return the state for the process that replaces this one: all circuits that hold back attempts, and all
        providers that refuse the gateway's key.
        """
        now = self._clock()
        states = [(key, memory, memory.circuit.remembered(now)) for key, memory in self._memories.items()]
        return HealthState(
            tuple(ModelState(*key, state, _sendable(memory)) for key, memory, state in states if state is not None),
            tuple(
                RestState(id_, now - rest.since, max(0.0, rest.until - now), rest.doublings)
                for id_, rest in self._rests.items()
            ),
        )

    def adopt(self, former: HealthState, same: Collection[str]) -> int:
        """Continue with the health that the replaced process knew. Return how many models and providers rest.

        `same` has the ids of the providers that are reached in the same way as in the replaced process. All others
        start as healthy.
        """
        now, adopted = self._clock(), 0
        for one in former.models:
            if one.provider in same and (one.provider, one.model) in self._peers:
                memory = self._remember(one.provider, one.model)
                memory.circuit.adopt(one.circuit, now)
                memory.failure = one.failure
                adopted += not memory.circuit.passes_all
        for rest in former.rests:
            breaker = self._breaker(rest.provider)
            if rest.provider in same and breaker.enabled:
                doublings = min(max(0, rest.doublings), MAX_DOUBLINGS)
                until = now + min(max(0.0, rest.rest), breaker.open_seconds * 2**MAX_DOUBLINGS)
                self._rests[rest.provider] = _Rest(now - max(0.0, rest.age), until, doublings)
                adopted += 1
        return adopted

    def _standing(self, key: Key, now: float, wall: float) -> Standing:
        provider_id, model = key
        memory = self._memories.get(key)
        breaker = self._breaker(provider_id)
        circuit = Circuit(breaker) if memory is None else memory.circuit
        state, cause, retry_in = circuit.read(now)
        calls, failures = (0, 0) if memory is None else circuit.counts(now)
        since = circuit.since
        rest = self._rests.get(provider_id)
        if rest is not None:
            state, cause, since, retry_in = "open", "key_refused", rest.since, max(0.0, rest.until - now)
        return Standing(
            provider=provider_id,
            model=model,
            state=state,
            cause=cause,
            since=wall - (now - since) if since else None,
            retry_in=retry_in,
            calls=calls,
            failures=failures,
            throttles=circuit.throttles,
            mean_seconds=circuit.mean_seconds,
            last_success_at=None if memory is None or memory.succeeded_at is None else wall - now + memory.succeeded_at,
            last_failure=None if memory is None else memory.failure,
            enabled=breaker.enabled,
            has_other=self._peers.has_other(key),
        )

    def _remember(self, provider_id: str, model: str) -> _Memory:
        """Return a new `_Memory` for a model. It is kept only if the model is still in the configuration."""
        memory = _Memory(Circuit(self._breaker(provider_id)))
        if (provider_id, model) in self._peers:
            self._memories[provider_id, model] = memory
        return memory

    def _breaker(self, provider_id: str) -> CircuitBreaker:
        provider = self._providers.get(provider_id)
        return CircuitBreaker() if provider is None else provider.circuit_breaker

    def _passes(self, provider_id: str, model: str, circuit: Circuit) -> bool:
        before = circuit.state
        passes = circuit.may_try(self._clock())
        if circuit.state != before:
            self._report(provider_id, model, circuit)
        return passes

    def _accept(self, provider_id: str, began: float) -> None:
        """Allow attempts at a provider again, because it has accepted the key in an attempt.

        `began` is the time at which this attempt began. If that was before the provider refused the key, nothing
        changes.
        """
        rest = self._rests.get(provider_id)
        if rest is not None and began >= rest.since:
            del self._rests[provider_id]
            self.changed(Change(provider_id, "", "closed", "", 0, 0, 0.0))

    def _is_outlier(self, key: Key, circuit: Circuit, now: float) -> bool:
        """Return whether a model fails much more often than its peers: the other models that can serve its calls
        (`Peers`).

        The failure rate of the model is compared with that of all healthy peers together. The limit of the difference
        is `CircuitBreaker.outlier`. The result is False if there are too few attempts (`OUTLIER_CALLS`).
        """
        settings = circuit.settings
        calls, failures = circuit.counts(now)
        if not settings.enabled or calls < settings.calls * OUTLIER_CALLS:
            return False
        others = [memory.circuit for peer in self._peers.of(key) if (memory := self._memories.get(peer))]
        counts = [other.counts(now) for other in others if other.passes_all]
        calls_of_others, failures_of_others = (
            (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
        )
        if calls_of_others < settings.calls * OUTLIER_CALLS:
            return False
        return failures / calls - failures_of_others / calls_of_others > settings.outlier

    def _report(self, provider_id: str, model: str, circuit: Circuit) -> None:
        now = self._clock()
        calls, failures = circuit.counts(now)
        seconds = max(0.0, circuit.until - now) if circuit.state == "open" else 0.0
        self.changed(Change(provider_id, model, circuit.state, circuit.cause, calls, failures, seconds))


def _sendable(memory: _Memory) -> Failure | None:
    """Return the last error of a model, or None if there is none. In its message, lone surrogates are replaced, because
    UTF-8 cannot encode them.
    """
    failure = memory.failure
    if failure is None:
        return None
    return msgspec.structs.replace(failure, message=failure.message.encode("utf-8", "replace").decode())
