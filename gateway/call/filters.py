"""The filters of one call: plugins that see the call and change it, block it, or answer it.

- Filters are opened in the order of the configuration. Each filter sees the changes of those before it.
- If a filter fails, the call is refused or continues without this filter, as the configuration says (`on_error`).
- `done` runs for each opened filter after the call's record was made, in a separate task that delays no call.

The middleware `middleware/filters.py` calls these functions. `filtered_replies.py` gives filters the text of replies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.call.plugin_reports import PluginReports
from gateway.config.model import PluginConfig
from gateway.contract.errors import PluginFailed
from gateway.contract.filter import SECONDS, Asked, CallView, Reply, Settings
from gateway.contract.filter_checks import METHODS
from gateway.contract.hooks import Hook
from gateway.contract.record import Record
from gateway.contract.registry import LoadedFilter
from gateway.upstream.fetch.filter_client import FilterClient

CLOSE_SECONDS: Final = 5.0
"""Maximum number of seconds for which the process waits at its end for `done` of all filters."""
CANCEL_SECONDS: Final = 1.0
"""Maximum number of seconds for which the process then waits for `done` of filters that ignore their cancellation."""


@dataclass(frozen=True, slots=True)
class ActiveFilter:
    """A filter that the configuration has switched on."""

    name: str
    hooks: Mapping[str, Hook]
    settings: Settings
    passes: bool
    """Whether a call continues without this filter if the filter fails."""


@dataclass(slots=True)
class OpenFilter:
    """A filter that was opened for a call."""

    active: ActiveFilter
    methods: Mapping[str, Callable[..., Any]]
    """The methods that the filter's object has, by name."""
    failed: bool = False
    """Whether a method has failed. Then only `done` is called."""

    def method(self, name: str) -> Callable[..., Any] | None:
        return None if self.failed else self.methods.get(name)

    async def run(self, name: str, method: Callable[..., Any], *args: Any) -> Any:
        return await self.active.hooks[f"filter.{name}"].settled(method, *args, seconds=SECONDS)


class AfterCalls:
    """The tasks that run `done` of filters after calls."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for the tasks for at most `CLOSE_SECONDS`, cancel those that are left, and wait for them for at most
        `CANCEL_SECONDS`.
        """
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=CANCEL_SECONDS)


@dataclass(slots=True)
class CallFilters:
    """The filters that are open for one call."""

    request_id: str
    client: FilterClient
    reports: PluginReports
    after: AfterCalls
    opened: list[OpenFilter] = field(default_factory=list)

    async def open(self, active: ActiveFilter, view: CallView) -> None:
        """Open a filter. Raises `Refused` if the filter blocks the call, and `PluginFailed` if it fails."""
        hook = active.hooks["filter.open"]
        function = hook.function
        assert function is not None
        try:
            made = await hook.settled(function, view, active.settings, seconds=SECONDS)
        except PluginFailed as failure:
            self._report(active, failure)
            return
        if made is not None:
            methods = {name: method for name in METHODS if callable(method := getattr(made, name, None))}
            self.opened.append(OpenFilter(active, methods))

    def failed(self, one: OpenFilter, failure: PluginFailed) -> None:
        """Call no more methods of a filter but `done`. Raise the failure if the call must not continue without it."""
        one.failed = True
        self._report(one.active, failure)

    def _report(self, active: ActiveFilter, failure: PluginFailed) -> None:
        """Report the failure of a filter if the call can continue without it. Otherwise raise the failure."""
        if not active.passes:
            raise failure
        self.reports.failed(failure, self.request_id)

    async def ask(self, name: str, *args: Any) -> list[Any]:
        """Return the results of a method of all filters.

        Raises `Refused` if a filter blocks the call, and `PluginFailed` if one fails that the call needs.
        """
        results = []
        for one in self.opened:
            if (method := one.method(name)) is None:
                continue
            try:
                results.append(await one.run(name, method, *args))
            except PluginFailed as failure:
                self.failed(one, failure)
        return results

    async def request(self, asked: Asked, *, stream: bool) -> Asked | Reply:
        """Return the request as the filters pass it on, or the reply of a filter that answers the call itself."""
        for one in self.opened:
            if (method := one.method("request")) is None:
                continue
            try:
                result = await one.run("request", method, asked)
                if isinstance(result, Reply) and stream is not bool(result.events):
                    raise _wrong_reply(one.active, stream=stream)
            except PluginFailed as failure:
                self.failed(one, failure)
                continue
            if isinstance(result, Reply):
                return result
            asked = asked if result is None else result
        return asked

    def reads(self, name: str) -> bool:
        """Return whether an opened filter has the method."""
        return any(one.method(name) is not None for one in self.opened)

    def done(self, record: Record) -> None:
        """Give the record to the filters that want it, in a separate task. Then close the filters' HTTP client."""
        if any("done" in one.methods for one in self.opened):
            self.after.start(self._done(record.as_dict()))
        else:
            self.client.close()

    async def _done(self, record: Mapping[str, Any]) -> None:
        for one in self.opened:
            if (method := one.methods.get("done")) is not None:
                try:
                    await one.run("done", method, record)
                except PluginFailed as failure:
                    self.reports.failed(failure, self.request_id)
        self.client.close()


def active_filters(plugins: Sequence[PluginConfig], filters: Mapping[str, LoadedFilter]) -> tuple[ActiveFilter, ...]:
    """Return the filters that the configuration names, in its order. Those that were switched off are left out."""
    active = []
    for plugin in plugins:
        if (loaded := filters.get(plugin.name)) is not None:
            passes = not loaded.blocks if plugin.on_error is None else plugin.on_error == "pass"
            active.append(ActiveFilter(plugin.name, loaded.hooks, plugin.settings, passes))
    return tuple(active)


def _wrong_reply(active: ActiveFilter, *, stream: bool) -> PluginFailed:
    """Return the failure of a filter whose answer is not a stream although one was requested, or the reverse."""
    expected = "events, because the client asks for a stream" if stream else "a body, because no stream is asked for"
    return PluginFailed(active.name, "filter.request", f"returned a Reply of the other kind; it needs {expected}", "")
