"""Answers of workers to questions of their parent process (the keeper): their metrics, and the state that pages and
/readyz show.

- The state has the calls in flight and their reservations in quotas, the health of the models at providers, the refused
  keys, and a fault of the disk. Each worker knows only the results of its own calls. If the workers' states differ, the
  keeper shows the worst state, and the sum of the reservations.
- The keeper asks for the state when a page or /readyz is requested, but at most twice a second. If a worker does not
  answer in time, the state of the other workers is shown.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from math import inf
from time import monotonic
from typing import Any, Final, Protocol

import msgspec

from gateway.call.context import Gateway
from gateway.call.live_calls import LiveCall, live_call
from gateway.process.workers.balance import Slots
from gateway.process.workers.merged_metrics import MergedMetrics
from gateway.process.workers.metric_families import Family, families
from gateway.upstream.health.merged import MergedHealth
from gateway.upstream.health.standings import Standing

METRICS: Final = "metrics"
STATE: Final = "state"
ANSWER_SECONDS: Final = 1.0
"""Maximum number of seconds that the keeper (the parent process) waits for answers of its workers. Answers that come
later are ignored.
"""
FRESH_SECONDS: Final = 0.5
"""Seconds for which the last answers are used again, so that many requests for pages do not cause many questions to the
workers.
"""
Answer = Callable[[], Coroutine[Any, Any, str]]
"""A function of a worker that answers a question of the keeper (the parent process)."""


class WorkerMetrics(msgspec.Struct, frozen=True):
    """The metrics that a worker reports to the keeper (its parent process), and the amounts that its calls have
    reserved.

    The keeper adds up the reserved amounts of all workers, to compute how much of each quota is used.
    """

    families: list[Family]
    reserved: dict[str, int]
    """Maps the name of a money bucket to the amount that the calls in flight have reserved in the bucket."""


_METRICS: Final = msgspec.json.Decoder(WorkerMetrics)


def families_of(text: str) -> list[Family]:
    """Return the metrics of a worker from the JSON text that `metrics_of` has made."""
    return _METRICS.decode(text).families


class WorkerState(msgspec.Struct, frozen=True):
    """The state that a worker reports: its calls in flight, and the health of models, keys and the disk."""

    calls: tuple[LiveCall, ...]
    standings: tuple[Standing, ...]
    refused_keys: dict[str, list[str]]
    """Maps a provider's id to the names of the keys that the provider refused."""
    disk_fault: str
    reserved: dict[str, int]
    """Maps the name of a money bucket to the amount that the calls in flight have reserved in the bucket."""


_STATE: Final = msgspec.json.Decoder(WorkerState)


class Asking(Protocol):
    """Sends questions of the keeper (the parent process) to its workers."""

    async def asked(self, name: str, seconds: float) -> Mapping[str, str]:
        """Send the question `name` to all workers, and return the answers that come within `seconds`.

        The key of an answer is the name of the worker's spool (the journal of its calls).
        """

    @property
    def size(self) -> int:
        """The number of workers that can serve."""

    @property
    def most(self) -> int:
        """The largest number of workers that could serve at any one time since the start."""


def answers(gateway: Gateway) -> Mapping[str, Answer]:
    """Return the functions that answer the questions of the keeper (the worker's parent process).

    The keys are the names of the questions.
    """
    return {METRICS: lambda: metrics_of(gateway), STATE: lambda: _state(gateway)}


async def metrics_of(gateway: Gateway) -> str:
    """Return the metrics of this worker as JSON text, which is sent to the keeper (the parent process)."""
    reserved = _reserved(gateway)

    def encoded() -> str:
        return msgspec.json.encode(WorkerMetrics(families(gateway.metrics.registry), reserved)).decode()

    return await asyncio.to_thread(encoded)


async def _state(gateway: Gateway) -> str:
    calls = tuple(_sendable(live_call(call)) for call in gateway.calls.values())

    def encoded() -> str:
        state = WorkerState(
            calls,
            tuple(gateway.health.standings()),
            gateway.keys.remembered(),
            gateway.follower.disk_fault(),
            _reserved(gateway),
        )
        return msgspec.json.encode(state).decode()

    # a thread makes it, because there may be thousands of models, and the disk may be slow
    return await asyncio.to_thread(encoded)


def _reserved(gateway: Gateway) -> dict[str, int]:
    return {_clean(name): amount for name, amount in gateway.quotas.reserved().items()}


def _sendable(call: LiveCall) -> LiveCall:
    """Return a call without the characters that JSON cannot encode. Texts that a client has chosen may have them."""
    texts = {name: getattr(call, name) for name in ("session_id", "identity", "agent", "model")}
    return msgspec.structs.replace(call, **{name: _clean(text) for name, text in texts.items()})


def _clean(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class WorkerStates:
    """The state of all workers as the keeper (the parent process) knows it. It implements the protocol
    `context.Workers`.

    `health` receives what the workers report about the health of models at providers.
    """

    def __init__(
        self, gateway: Gateway, health: MergedHealth, asking: Asking, slots: Slots, metrics: MergedMetrics
    ) -> None:
        self._gateway = gateway
        self._health = health
        self._asking = asking
        self._slots = slots
        self._metrics = metrics
        self._refreshed_at = -inf
        self._refreshing: asyncio.Task[None] | None = None
        self.calls: Sequence[LiveCall] = ()
        self.disk_fault = ""

    @property
    def number(self) -> int:
        return self._asking.most

    @property
    def alive(self) -> int:
        return self._asking.size

    @property
    def calls_in_flight(self) -> int:
        return self._slots.calls

    async def refresh(self) -> None:
        if self._refreshing is None:
            if monotonic() - self._refreshed_at < FRESH_SECONDS:
                return
            self._refreshing = asyncio.create_task(self._refresh())
        await asyncio.shield(self._refreshing)

    async def _refresh(self) -> None:
        try:
            texts = [*(await self._asked(STATE)).values()]
            states = await asyncio.to_thread(lambda: [_STATE.decode(text) for text in texts])
            self.calls = [call for state in states for call in state.calls]
            self.disk_fault = next((state.disk_fault for state in states if state.disk_fault), "")
            self._health.take(state.standings for state in states)
            self._show_keys(states)
            self._reserve(states)
            self._refreshed_at = monotonic()
        finally:
            self._refreshing = None

    def _reserve(self, answers: Iterable[WorkerState | WorkerMetrics]) -> None:
        """Tell the quotas how much the calls of the workers have reserved."""
        reserved: Counter[str] = Counter()
        for answer in answers:
            reserved.update(answer.reserved)
        self._gateway.quotas.reserved_by_workers = reserved

    def _show_keys(self, states: Sequence[WorkerState]) -> None:
        """Let the gateway show a provider's key as refused if at least one worker reports the key as refused."""
        providers = self._gateway.runtime.config.providers
        self._gateway.keys.clear()
        for state in states:
            for id_, names in state.refused_keys.items():
                if (provider := providers.get(id_)) is not None:
                    for name in names:
                        self._gateway.keys.refused(provider, name)

    async def metrics(self) -> bytes:
        texts = await self._asked(METRICS)
        decoded = await asyncio.to_thread(lambda: {spool: _METRICS.decode(text) for spool, text in texts.items()})
        self._reserve(decoded.values())
        return await self._metrics.render({spool: answer.families for spool, answer in decoded.items()})

    async def _asked(self, name: str) -> Mapping[str, str]:
        expected = self._asking.size
        texts = await self._asking.asked(name, ANSWER_SECONDS)
        self._metrics.silent(max(0, expected - len(texts)))
        return texts
