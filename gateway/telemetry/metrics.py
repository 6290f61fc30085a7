"""Prometheus metrics of the gateway, in a separate registry.

- The configuration limits the number of label values. A model that is not configured has the label `other`. A call
  without a provider has the label `none`.
- Calls are counted by caller only if the configuration sets a maximum number of callers.
- A series is a metric with fixed label values. The series of a call are cached by provider, model and API, because
  `labels()` takes longer than counting.
- Everything that the record of a call contains is counted in `observe`. The other methods are for events that are in no
  record, such as refused connections.
- `deploy/vocabulary.md` defines the names of the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from time import time
from typing import Final, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from gateway import __version__
from gateway.contract.errors import STATUS
from gateway.contract.flag import USAGE_KINDS
from gateway.contract.record import LOST, NANODOLLARS, Record
from gateway.telemetry.active_sessions import ActiveSessions
from gateway.telemetry.call_series import CallCounter, CallHistogram
from gateway.telemetry.circuit_metrics import CircuitMetrics
from gateway.telemetry.export_metrics import ExportMetrics
from gateway.telemetry.label_names import Bounds, LabelNames
from gateway.telemetry.labelled_values import LabelledValues
from gateway.telemetry.plugin_metrics import PluginMetrics
from gateway.telemetry.recent_calls import RecentCalls

DURATION_BUCKETS: Final = (
    *(0.01 * 2**power for power in range(14)), 163.84, 327.68, 600.0,
)  # fmt: skip
"""Upper bounds of the histogram's buckets for the duration of calls, in seconds. The shortest calls are refused ones,
and the longest are turns of agents."""
FIRST_EVENT_BUCKETS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0,
    60.0,
)  # fmt: skip
"""Upper bounds of the histogram's buckets for the time to the first event of a reply, in seconds.

They are those of Envoy AI Gateway's time_to_first_token, so that a dashboard can compare the two metrics.
"""
OVERHEAD_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
"""Upper bounds of the histogram's buckets for the time that the gateway adds to a call, in seconds."""
OTHER: Final = "other"
NONE: Final = "none"
OK: Final = "ok"

# otherwise the library adds a series `_created` to each counter, which doubles the size of the output
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's own annotation is missing


class Journalling(Protocol):
    """The state of the journal. The journal consists of files to which calls are written before they are moved to the
    store.

    The thread that runs `Metrics.render` reads this state.
    """

    @property
    def lag(self) -> int: ...

    @property
    def waiting(self) -> int: ...

    @property
    def failing(self) -> bool: ...

    def disk_fault(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Series:
    """The time series of the calls with one provider, model and client API."""

    duration: CallHistogram
    first_event: CallHistogram
    tokens: tuple[CallCounter, ...]
    """The counters of tokens, in the order of `USAGE_KINDS`."""
    cost: CallCounter
    unpriced: CallCounter
    dropped: CallCounter


class Metrics:
    """All metrics of the gateway. `observe` must get the record of each call once, on the event loop."""

    def __init__(self, config: Bounds, *, version: str = __version__) -> None:
        self._series: dict[tuple[str, str, str], _Series] = {}
        self._counts: dict[tuple[str, str, str, int, str], CallCounter] = {}
        self._overheads: dict[str, CallHistogram] = {}
        self._users: dict[str, tuple[Counter, Counter]] = {}
        self._active = ActiveSessions()
        self.recent = RecentCalls()
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._define_calls()
        self._define_providers()
        self._define_process(version)
        self.plugins = PluginMetrics(self.registry)
        self.circuits = CircuitMetrics(self.registry)
        self.exports = ExportMetrics(self.registry)
        self.configured(LabelNames.of(config))

    def _define_calls(self) -> None:
        where = ("provider", "model", "api")
        self._requests = self._counter("requests", "Calls by what became of them.", (*where, "status", "outcome"))
        self._duration = CallHistogram(
            "irisgate_request_duration_seconds", "Time from a request's arrival to the last byte of its reply.", where,
            buckets=DURATION_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self._first_event = CallHistogram(
            "irisgate_time_to_first_event_seconds", "Time from a request's arrival to the first event of its stream.",
            where, buckets=FIRST_EVENT_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self._tokens = self._counter(
            "tokens", "Tokens as providers reported them; reasoning is a part of output.", ("provider", "model", "kind")
        )
        self._cost = self._counter("cost_usd", "US dollars, of calls whose price is known.", ("provider", "model"))
        self._unpriced = self._counter("unpriced_calls", "Calls whose cost is not known.", ("provider", "model"))
        self._dropped = self._counter(
            "fields_dropped", "Fields of requests and replies that were not carried to the other side.", ("provider",)
        )

        self._user_cost = self._counter(
            "user_cost_usd", "US dollars by caller, of calls whose price is known; off unless configured.", ("user",)
        )
        self._user_tokens = self._counter(
            "user_tokens", "Tokens of all kinds by caller; off unless configured.", ("user",)
        )

    def _define_providers(self) -> None:
        self._overhead = CallHistogram(
            "irisgate_overhead_seconds",
            "Time between a request's last byte and its reply's end, or its stream's first event, without the waits "
            "for the provider.",
            ("api",), buckets=OVERHEAD_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self._auth_failures = self._counter(
            "upstream_auth_failures", "Calls for which a provider refused the gateway's key.", ("provider",)
        )
        self._upstream_errors = self._counter(
            "upstream_errors", "Tries that ended with an error of a provider, or on the way to it.",
            ("provider", "code"),
        )  # fmt: skip
        self._failovers = self._counter(
            "failovers", "Attempts that failed and were followed by another attempt.", ("provider", "code")
        )
        self._key_attempts = self._counter(
            "key_attempts",
            "Attempts with one of several keys of a provider, by their end.",
            ("provider", "key", "code"),
        )
        self._key_cost = self._counter(
            "key_cost_usd", "US dollars by key, for providers with several, where the price is known.",
            ("provider", "key"),
        )  # fmt: skip
        self._refused_calls = self._counter("calls_refused", "Calls that were refused because of a limit.", ("limit",))
        self._refused_connections = self._counter(
            "connections_refused", "Connections of clients that were closed because of a limit.", ("limit",)
        )
        self._fetches = self._counter(
            "fetches", "Files that clients named by URL: read, or refused for whatever reason.", ("outcome",)
        )

    def _define_process(self, version: str) -> None:
        self._reloads = self._counter("config_reloads", "Changes of the configuration file, by result.", ("result",))
        self._reloaded = self._gauge("config_last_reload_successful", "1 when the last change was taken over, else 0.")
        self._reloaded_at = self._gauge(
            "config_last_reload_timestamp_seconds", "Unix time at which the configuration in use was taken over."
        )
        self.open_streams = self._gauge("open_streams", "Streams that are being sent to clients.")
        sessions = self._gauge("sessions_active", "Sessions with a call in the last five minutes.")
        sessions.set_function(self._active.count)
        Info("irisgate_build", "The release that runs.", registry=self.registry).info({"version": version})
        self._reloaded.set(1)
        self._reloaded_at.set(time())
        for result in _RESULTS.values():
            self._reloads.labels(result)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> CallCounter:
        return CallCounter(f"irisgate_{name}_total", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"irisgate_{name}", text, registry=self.registry)

    def journal(self, follower: Journalling) -> None:
        """Add the metrics of the journal (files to which calls are written before the store): the bytes that wait for
        the disk or the store, and whether the disk or the store fails.

        `render` reads these values from `follower`.
        """
        gauges: tuple[tuple[str, str, Callable[[], float]], ...] = (
            ("journal_lag_bytes", "Bytes of the journal that the store has not taken over.", lambda: follower.lag),
            ("journal_waiting_bytes", "Bytes of records that wait in memory for the disk.", lambda: follower.waiting),
            ("journal_full", "1 while the disk takes no records, else 0.", lambda: bool(follower.disk_fault())),
            ("store_failing", "1 while the store refuses what it is given, else 0.", lambda: follower.failing),
        )
        for name, text, read in gauges:
            self._gauge(name, text).set_function(read)

    def checks(self, failing: Callable[[], Mapping[str, float]], ready: Callable[[], bool]) -> None:
        """Add the metrics of /readyz. `render` calls both functions to get the values.

        `ready` returns whether /readyz replies with 200. `failing` returns a number for each check of /readyz: 1 if the
        check fails, and 0 if it does not.
        """
        self._gauge("ready", "1 while /readyz answers 200, else 0.").set_function(ready)
        text = "1 while a check of /readyz fails, else 0."
        self.registry.register(LabelledValues("irisgate_check_failing", text, "check", failing))

    def admission(
        self, calls: Callable[[], int], held: Callable[[], int], by_provider: Callable[[], Mapping[str, float]]
    ) -> None:
        """Add the metrics of running calls.

        `calls` returns the number of running calls, and `by_provider` returns this number for each provider. `held`
        returns the bytes of their bodies and buffered replies.
        """
        text = "Calls in flight that go to a provider."
        self.registry.register(LabelledValues("irisgate_provider_calls_in_flight", text, "provider", by_provider))
        self._gauge("calls_in_flight", "Calls that have begun and not ended.").set_function(calls)
        self._gauge("buffered_bytes", "Bytes of bodies and buffered replies of calls in flight.").set_function(held)

    def call_refused(self, limit: str) -> None:
        """Count a call that was refused because of a limit.

        `limit` is a key of `server.limits`, or the path of a provider's limit in the configuration, such as
        `providers.openai.calls_in_flight`.
        """
        self._refused_calls.labels(limit).inc()

    def connections(self, count: Callable[[], int]) -> None:
        """Add the metric of clients' connections. `render` calls `count` to get their number."""
        self._gauge("connections", "Connections of clients.").set_function(count)

    def connection_refused(self, limit: str) -> None:
        """Count a connection that was closed because of a limit. `limit` is a key of `server.limits`."""
        self._refused_connections.labels(limit).inc()

    def quotas(self, used: Callable[[], Mapping[str, float]]) -> None:
        """Add the metric of the used fraction of each quota. `render` calls `used` to get the fractions."""
        text = "The used part of a quota, of its emptiest bucket; above 1 where more was spent than was there."
        self.registry.register(LabelledValues("irisgate_quota_used_ratio", text, "quota", used))

    def retry_budget(self, used: Callable[[], float]) -> None:
        """Add the metric of the retry budget. `render` calls `used` to get the used fraction of the budget."""
        text = "The used part of the further requests that are allowed after failures; at 1, calls fail at once."
        self._gauge("retry_budget_used_ratio", text).set_function(used)

    def discovery(self, models: Callable[[], Mapping[str, float]], failing: Callable[[], Mapping[str, float]]) -> None:
        """Add the metrics of providers' own lists of models. `render` calls both functions to get a value for each
        provider.

        `models` returns the number of models in the provider's last list. `failing` returns 1 if the gateway's last
        request for the list failed, and 0 if not.
        """
        text = "Models in the last list of a provider that is asked for its models."
        self.registry.register(LabelledValues("irisgate_discovered_models", text, "provider", models))
        text = "1 while a provider does not answer with its models, else 0; its last list stays in use."
        self.registry.register(LabelledValues("irisgate_discovery_failing", text, "provider", failing))

    def configured(self, names: LabelNames) -> None:
        """Use the label values of a new configuration from now on. Existing time series are kept."""
        self._names = names

    def note(self, record: Record) -> None:
        """Add a finished call only to the sums of the last minutes and to the active sessions.

        This is for a call of another process, which counts the call in its own metrics.
        """
        self.recent.observe(record)
        if record.session_id:
            self._active.note((record.identity, record.session_id))

    def observe(self, record: Record) -> None:
        """Count a finished call in all metrics of calls."""
        self.note(record)
        provider, model = record.provider or NONE, self._model(record)
        key = (provider, model, record.api)
        series = self._series.get(key) or self._open(key)
        self._count(key, record.status // 100, record.outcome).add(1)
        if record.outcome != LOST:
            # nobody knows how long a lost call took
            series.duration.add(record.duration_ms / 1000)
        if record.first_event_ms is not None:
            series.first_event.add(record.first_event_ms / 1000)
        for tokens, amount in zip(series.tokens, _tokens_of(record.usage), strict=True):
            if amount:
                tokens.add(amount)
        if record.cost is None:
            series.unpriced.add(1)
        elif record.cost:
            series.cost.add(record.cost / NANODOLLARS)
        if record.dropped:
            series.dropped.add(len(record.dropped))
        self._count_others(record)

    def _count_others(self, record: Record) -> None:
        """Count each failed attempt that was followed by another one. Also count the call by API key and by user."""
        for attempt in record.tried[:-1]:
            self._failovers.labels(attempt.provider, attempt.error if attempt.error in STATUS else OTHER).inc()
        if record.key or any(attempt.key for attempt in record.tried):
            self._count_keys(record)
        if self._names.max_users and record.identity:
            self._count_user(record)

    def _count_keys(self, record: Record) -> None:
        """Count each attempt of a call, and its cost, by the name of the API key that the gateway used."""
        attempts = [(one.provider, one.key, one.error, one.cost) for one in record.tried]
        for provider, key, error, cost in attempts or [(record.provider, record.key, record.error, record.cost)]:
            if key:
                code = error if not error or error in STATUS else OTHER
                self._key_attempts.labels(provider, key, code or OK).inc()
                if cost:
                    self._key_cost.labels(provider, key).inc(cost / NANODOLLARS)

    def _model(self, record: Record) -> str:
        if not record.provider:
            return record.model if record.model in self._names.any_model else OTHER if record.model else NONE
        return record.model if (record.provider, record.model) in self._names.models else OTHER

    def _open(self, key: tuple[str, str, str]) -> _Series:
        provider, model, _ = key
        self._series[key] = series = _Series(
            duration=self._duration.labels(*key),
            first_event=self._first_event.labels(*key),
            tokens=tuple(self._tokens.labels(provider, model, kind) for kind in USAGE_KINDS),
            cost=self._cost.labels(provider, model),
            unpriced=self._unpriced.labels(provider, model),
            dropped=self._dropped.labels(provider),
        )
        return series

    def _count_user(self, record: Record) -> None:
        """Count the cost and the tokens of a call for its user. If there are more users than configured, the further
        ones have the label `other`.
        """
        user = record.identity
        if user not in self._users and len(self._users) >= self._names.max_users:
            user = OTHER
        cost, tokens = self._users.get(user) or (self._user_cost.labels(user), self._user_tokens.labels(user))
        if user != OTHER:
            self._users[user] = cost, tokens
        if record.cost:
            cost.inc(record.cost / NANODOLLARS)
        # reasoning is a part of output
        tokens.inc(sum(getattr(record.usage, kind) for kind in USAGE_KINDS if kind != "reasoning"))

    def _count(self, key: tuple[str, str, str], hundreds: int, outcome: str) -> CallCounter:
        counter = self._counts.get((*key, hundreds, outcome))
        if counter is None:
            counter = self._counts[(*key, hundreds, outcome)] = self._requests.labels(*key, f"{hundreds}xx", outcome)
        return counter

    def overhead(self, api: str, seconds: float) -> None:
        """Record the seconds that the gateway added to a call of the API format `api` (`Call.overhead`)."""
        series = self._overheads.get(api)
        if series is None:
            series = self._overheads[api] = self._overhead.labels(api)
        series.add(seconds)

    def upstream_error(self, provider: str, code: str) -> None:
        """Count a failed attempt to get a reply from a provider. `code` is an error code (`contract/errors.py`)."""
        self._upstream_errors.labels(provider, code if code in STATUS else OTHER).inc()

    def fetched(self, outcome: str) -> None:
        """Count the download of a file from a URL in a client's request. `outcome` is `ok` or `refused`."""
        self._fetches.labels(outcome).inc()

    def upstream_auth_failure(self, provider: str) -> None:
        self._auth_failures.labels(provider).inc()

    def config_reloaded(self, *, successful: bool) -> None:
        self._reloads.labels(_RESULTS[successful]).inc()
        self._reloaded.set(int(successful))
        if successful:
            self._reloaded_at.set(time())

    def render(self) -> bytes:
        """Return all metrics in Prometheus's text format. This takes 100 ms for 7000 lines, so call it in a thread."""
        return generate_latest(self.registry)


_tokens_of: Final = attrgetter(*USAGE_KINDS)
_RESULTS: Final = {True: "success", False: "failure"}
