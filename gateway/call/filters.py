"""The filters of one call: plugins that see the call, and may change it, block it, or answer it.

- Filters are opened in the order of the configuration. Each filter sees the changes of the filters before it.
- If a filter fails, its setting `on_error` decides whether the call is refused or continues without this filter.
- The method `done` of each opened filter runs in a separate task after the call's record was made. So it delays no
  call.

`filtered_requests.py` gives the requests to the filters, and `filtered_replies.py` gives them the text of replies. The
middleware `middleware/filters.py` calls both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import wraps
from inspect import isawaitable
from typing import Any, Final

import msgspec

from gateway.call import plugin_threads
from gateway.call.plugin_reports import PluginReports
from gateway.config.model import PluginConfig
from gateway.contract.errors import PluginFailed
from gateway.contract.filter import SECONDS, CallView, Settings
from gateway.contract.filter_checks import METHODS
from gateway.contract.hooks import Hook
from gateway.contract.plugin_functions import is_async
from gateway.contract.record import Record
from gateway.contract.registry import LoadedFilter
from gateway.upstream.fetch.filter_client import FilterClient

THREAD_SECONDS: Final = 60.0
"""Maximum number of seconds that a call waits for a filter's method if the method runs in a thread."""
CLOSE_SECONDS: Final = 5.0
"""Maximum number of seconds for which a stopping process waits for the methods `done` of filters."""
CANCEL_SECONDS: Final = 1.0
"""Maximum number of seconds that a stopping process waits after it has cancelled methods `done` of filters.

A method is cancelled if it still runs after `CLOSE_SECONDS`. Only a method that ignores the cancellation takes all of
this time.
"""


class ActiveFilter(msgspec.Struct, frozen=True):
    """A filter that the configuration has switched on."""

    name: str
    hooks: Mapping[str, Hook]
    settings: Settings
    passes: bool
    """Whether a call continues without this filter if the filter fails."""


class OpenFilter(msgspec.Struct):
    """A filter that was opened for a call."""

    active: ActiveFilter
    methods: Mapping[str, Callable[..., Any]]
    """The methods of the filter's object, by name."""
    failed: bool = False
    """Whether a method of the filter has failed. After that, only its method `done` is called."""
    working: asyncio.Future[plugin_threads.Outcome] | None = None
    """The future of the last method of this filter that was started in a thread. None if no thread was started."""

    def method(self, name: str) -> Callable[..., Any] | None:
        return None if self.failed else self.methods.get(name)

    async def run(self, name: str, method: Callable[..., Any], *args: Any, is_large: bool = False) -> Any:
        """Call a method and return its result. With large arguments, a method that is not `async` runs in a thread."""
        hook = self.active.hooks[f"filter.{name}"]
        if is_large and not is_async(method):
            return await hook.settled(self._in_thread(method), *args, seconds=THREAD_SECONDS)
        return await hook.settled(method, *args, seconds=SECONDS)

    def _in_thread(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)  # so that a failure is reported with the method's place
        async def run(*args: Any) -> Any:
            self.working = plugin_threads.start(f"filter-{self.active.name}", method, args)
            result, error = await asyncio.shield(self.working)
            if error is not None:
                raise error
            if isawaitable(result):
                async with asyncio.timeout(SECONDS):
                    return await result
            return result

        return run


class AfterCalls:
    """The tasks that run filters' methods `done` after calls."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait until the tasks end, for at most `CLOSE_SECONDS`.

        Then cancel the tasks that are still running, and wait for at most `CANCEL_SECONDS`.
        """
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=CANCEL_SECONDS)


class CallFilters(msgspec.Struct):
    """The filters that are open for one call."""

    request_id: str
    client: FilterClient
    reports: PluginReports
    after: AfterCalls
    opened: list[OpenFilter] = msgspec.field(default_factory=list)

    async def open(self, active: ActiveFilter, view: CallView) -> None:
        """Open a filter.

        Raises `Refused` if the filter blocks the call. Raises `PluginFailed` if it fails and the call must not continue
        without it.
        """
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
        """Remember that a filter has failed. From now on, only the method `done` of this filter is called.

        Raises the failure if the call must not continue without this filter.
        """
        one.failed = True
        self._report(one.active, failure)

    def _report(self, active: ActiveFilter, failure: PluginFailed) -> None:
        """Report the failure of a filter if the filter's setting lets calls continue without it. Otherwise raise the
        failure.
        """
        if not active.passes:
            raise failure
        self.reports.failed(failure, self.request_id)

    async def ask(self, name: str, *args: Any, is_large: bool = False) -> list[Any]:
        """Call the method `name` of every open filter that has this method, and return the results.

        `is_large` is True if the arguments are large. Raises `Refused` if a filter blocks the call. Raises
        `PluginFailed` if a filter fails and the call must not continue without it.
        """
        results = []
        for one in self.opened:
            if (method := one.method(name)) is None:
                continue
            try:
                results.append(await one.run(name, method, *args, is_large=is_large))
            except PluginFailed as failure:
                self.failed(one, failure)
        return results

    def reads(self, name: str) -> bool:
        """Return whether an open filter has the method `name`."""
        return any(one.method(name) is not None for one in self.opened)

    def done(self, record: Record) -> None:
        """Give the record to the filters that have a method `done`, in a separate task.

        Then close the filters' HTTP client.
        """
        if any("done" in one.methods for one in self.opened):
            self.after.start(self._done(record.as_dict()))
        else:
            self.client.close()

    async def _done(self, record: Mapping[str, Any]) -> None:
        for one in self.opened:
            if (method := one.methods.get("done")) is not None:
                if one.working is not None:  # of a call whose client has left
                    await asyncio.wait({one.working}, timeout=THREAD_SECONDS)
                try:
                    await one.run("done", method, record)
                except PluginFailed as failure:
                    self.reports.failed(failure, self.request_id)
        self.client.close()


def active_filters(plugins: Sequence[PluginConfig], filters: Mapping[str, LoadedFilter]) -> tuple[ActiveFilter, ...]:
    """Return the filters that the configuration names, in its order. Filters that are switched off are left out."""
    active = []
    for plugin in plugins:
        if (loaded := filters.get(plugin.name)) is not None:
            passes = not loaded.blocks if plugin.on_error is None else plugin.on_error == "pass"
            active.append(ActiveFilter(plugin.name, loaded.hooks, plugin.settings, passes))
    return tuple(active)
