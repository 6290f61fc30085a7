"""Calls the functions of plugins. This module alone checks the exceptions, the results and the running times of
plugins.

- A hook is one function of a plugin, such as `build`, or one method of the objects that the plugin makes, such as
  `meter.feed`.
- A plugin may raise a `GatewayError`. Any other exception, even `SystemExit`, becomes a `PluginFailed` with the plugin,
  the hook, the file and the line. A result of a wrong type becomes a `PluginFailed` too.
- `Hook.run` calls a function once. Methods such as `Hook.feed` call a function for many events, because a `run` for
  each event would slow down streams.
- Each hook counts its calls and adds up their time, for the metrics.

`hook_results.py` has the checks of results. `plugin_hooks.py` has the hooks of each kind of plugin.
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import takewhile
from time import perf_counter
from types import FrameType, TracebackType
from typing import Any, Final, TypeVar

from gateway.contract.definitions import definition, package
from gateway.contract.errors import BadFrame, GatewayError, PluginFailed
from gateway.contract.hook_results import OF_STEPS, RESULTS, Checks, is_valid_error
from gateway.contract.messages import Event, Steps
from gateway.contract.model_lists import ModelPages
from gateway.contract.result_values import WrongResult, wrong_result

R = TypeVar("R")
V = TypeVar("V")

SLOW_SECONDS: Final = 0.1
"""Seconds for which a hook may block the event loop without a warning. asyncio's debug mode has the same limit."""
MAX_CAUSE: Final = 300
"""Maximum number of characters that are logged of a plugin's exception. The traceback does not count."""
SHOWN_FRAMES: Final = 10
"""Number of frames that the traceback of a failure shows. They are the innermost ones. A recursion could have a
thousand."""


class HookTooSlow(BaseException):
    """The exception that interrupts a slow hook."""


def _ignored(_hook: Hook, _seconds: float, _place: str) -> None:
    """Do nothing. This is the default of `Hook.report_slow`."""


class Hook:
    """One hook of one plugin: a function of its module, or a method of the objects that such a function returns.

    A function of the module is in `function`, and `call(*args)` calls it. A method is not stored here, because each
    object has its own method. The caller passes the bound method, as in `run(meter.facts)`.
    """

    __slots__ = (
        "call", "calls", "check", "function", "home", "is_default", "name", "plugin", "report_slow", "seconds",
        "slow_seconds",
    )  # fmt: skip

    def __init__(
        self,
        plugin: str,
        name: str,
        home: str,
        function: Callable[..., Any] | None = None,
        *,
        is_default: bool = False,
    ) -> None:
        self.plugin = plugin
        self.name = name
        self.home = home
        """The top-level package of the plugin. The report of a failure names this package's innermost line."""
        self.function = function
        self.is_default = is_default
        """True if `function` is a default of `defaults.py`, and not the plugin's own function."""
        self.call = self._call(function)
        """A callable that calls `function` through `run`. For a hook without a function, it is `run` itself.

        A default is called directly, because the gateway's own code is neither checked nor timed.
        """
        self.check = RESULTS.get(name)
        """The function that checks the hook's results. It is None if the gateway does not use the results."""
        self.calls = 0
        self.seconds = 0.0
        """The sum of the times of all calls, in seconds."""
        self.slow_seconds = SLOW_SECONDS
        self.report_slow: Callable[[Hook, float, str], None] = _ignored
        """A callback for a slow call. It gets the call's seconds, and the file and line of the plugin's function."""

    def __reduce__(self) -> tuple[Callable[..., Hook], tuple[Any, ...]]:
        """Return a constructor and its arguments, for pickling. The counters are not pickled, because worker processes
        do not report them.
        """
        return partial(Hook, is_default=self.is_default), (self.plugin, self.name, self.home, self.function)

    def _call(self, function: Callable[..., Any] | None) -> Callable[..., Any]:
        if function is None:
            return self.run
        # a `partial` is three times as fast as a method `__call__`
        return function if self.is_default else partial(self.run, function)

    def run(self, function: Callable[..., R], *args: Any) -> R:
        """Call `function(*args)` as this hook, and return its result.

        Raises `PluginFailed` if the result has a wrong type, or if the function raises anything but a `GatewayError`.
        """
        began = perf_counter()
        try:
            result = function(*args)
            if self.check is not None:
                self.check(result)
        except BaseException as error:
            raise self.failure(error, function) from error
        finally:
            seconds = perf_counter() - began
            self.calls += 1  # `ran` without a call, because a call of a client runs ten hooks
            self.seconds += seconds
            if seconds > self.slow_seconds:
                self._report_slow(seconds, function)
        return result

    def piece(self, function: Callable[[str, str, bool], R], kind: str, piece: str, last: bool) -> R:
        """Return `function(kind, piece, last)`: a piece of text as a filter has changed it.

        The result is not checked if it is `piece` itself, because this is the most common case. Raises `PluginFailed`
        as `run` does.
        """
        began = perf_counter()
        try:
            result = function(kind, piece, last)
            if result is not piece and self.check is not None:
                self.check(result)
        except BaseException as error:
            raise self.failure(error, function) from error
        finally:
            seconds = perf_counter() - began
            self.calls += 1  # `ran` without a call, because most streams have hundreds of pieces
            self.seconds += seconds
            if seconds > self.slow_seconds:
                self._report_slow(seconds, function)
        return result

    def read(self, read: Callable[[Any, Event], R], event: Event) -> R:
        """Return `read(values, event)`. `values` is the iterable that the hook's function returns for the event.

        If `values` is a generator, the plugin's code runs while `read` iterates over it. So an exception within `read`
        counts as a failure of the plugin. Raises `PluginFailed` as `run` does.
        """
        function = self.function
        assert function is not None
        began = perf_counter()
        try:
            return read(function(event), event)
        except BaseException as error:
            raise self.failure(error, function) from error
        finally:
            self.ran(perf_counter() - began, function)

    async def settled(self, function: Callable[..., Any], *args: Any, seconds: float) -> Any:
        """Return the result of `function(*args)`. If the result is an awaitable, await it for at most `seconds`.

        Raises `PluginFailed` as `run` does, and also if the awaitable takes longer.
        """
        began = perf_counter()
        try:
            result = function(*args)
            self.ran(perf_counter() - began, function)
            if result is not None and inspect.isawaitable(result):
                async with asyncio.timeout(seconds):
                    result = await result
            if self.check is not None:
                self.check(result)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            raise self.failure(error, function) from error
        return result

    def each(self, function: Callable[..., Iterable[Event]], *args: Any) -> Iterator[Event]:
        """Yield the events of `function(*args)`. Raises `PluginFailed` as `run` does."""
        try:
            events = function(*args)
            if not hasattr(events, "__iter__"):
                raise wrong_result(events, "events")  # noqa: TRY301 (reported as the exceptions of the plugin are)
            for event in events:
                if type(event) is not Event:
                    raise wrong_result(event, "Event")  # noqa: TRY301 (reported as the exceptions of the plugin are)
                try:
                    yield event
                except GeneratorExit:
                    return  # the reader of the events has closed this generator
        except BaseException as error:
            raise self.failure(error, function) from error

    def listed(
        self, function: Callable[[V], Iterable[Event]], values: Iterable[V]
    ) -> tuple[list[Event], GatewayError | None]:
        """Call `function` with each value until a call fails.

        Return the list of all events before the failure, and the error. The error is None if no call fails.
        """
        events: list[Event] = []
        fault = None
        began = perf_counter()
        try:
            for value in values:
                made = function(value)
                if not hasattr(made, "__iter__"):
                    raise wrong_result(made, "events")  # noqa: TRY301 (reported as the exceptions of the plugin are)
                for event in made:
                    if type(event) is not Event:
                        raise wrong_result(event, "Event")  # noqa: TRY301 (reported as the exceptions of the plugin are)
                    events.append(event)
        except BaseException as error:  # noqa: BLE001 (whatever a plugin raises)
            fault = self.failure(error, function)
        self.ran(perf_counter() - began, function)
        return events, fault

    def feed(
        self, feed: Callable[[Event], Any], events: Sequence[Event], tolerated: type[GatewayError] | None
    ) -> tuple[int, GatewayError | None]:
        """Call `feed` with each event until a call fails. A call with an error of the type `tolerated` does not count
        as failed.

        Return the number of events before the failed call, and the error. If no call fails, return the number of all
        events and None.
        """
        for at, event in enumerate(events):
            try:
                feed(event)
            except BaseException as error:  # noqa: BLE001 (whatever a plugin raises)
                failure = self.failure(error, feed)
                if tolerated is None or not isinstance(failure, tolerated):
                    return at, failure
        return len(events), None

    def as_list(self, *args: Any) -> list[Any]:
        """Return a list of the values that the function yields. Raises `PluginFailed` as `run` does."""
        function = self.function
        assert function is not None
        began = perf_counter()
        try:
            result = list(function(*args))
            if self.check is not None:
                self.check(result)
        except BaseException as error:
            raise self.failure(error, function) from error
        finally:
            self.ran(perf_counter() - began, function)
        return result

    def total(self, events: Sequence[Event]) -> tuple[int, int, GatewayError | None]:
        """Call the hook with each event until a call fails, and add up the returned numbers.

        Return the sum, the number of events before the failed call, and the error. The error is None if no call fails.
        If the hook raises `BadFrame` for an event, the event counts as 0, and the next one follows.
        """
        function = self.function
        assert function is not None
        total = 0
        for at, event in enumerate(events):
            try:
                number = function(event)
                if type(number) is not int:
                    raise wrong_result(number, "int")  # noqa: TRY301 (reported as the exceptions of the plugin are)
                total += number
            except BadFrame:
                continue
            except BaseException as error:  # noqa: BLE001 (whatever a plugin raises)
                return total, at, self.failure(error, function)
        return total, len(events), None

    def joined(self, function: Callable[[Event], bytes], events: Iterable[Event]) -> tuple[bytes, GatewayError | None]:
        """Call `function` with each event until a call fails.

        Return the joined bytes of the calls before the failure, and the error. The error is None if no call fails.
        """
        parts: list[bytes] = []
        fault = None
        began = perf_counter()
        try:
            for event in events:
                parts.append(function(event))  # noqa: PERF401 (`map` would take a plugin's StopIteration for its end)
            data = b"".join(parts)
        except BaseException as error:  # noqa: BLE001 (whatever a plugin raises)
            right = list(takewhile(lambda part: isinstance(part, bytes), parts))
            data = b"".join(right)
            wrong = [wrong_result(part, "bytes") for part in parts[len(right) :]]
            fault = self.failure(wrong[0] if wrong else error, function)
        self.ran(perf_counter() - began)
        return data, fault

    def advance(self, steps: Steps | ModelPages, value: Any, checks: Checks = OF_STEPS) -> tuple[Any, bool]:
        """Resume the generator `steps` with `value`.

        If the generator yields, return the yielded value and False. If it ends, return its result and True. Raises
        `PluginFailed` as `run` does.
        """
        began = perf_counter()
        try:
            wanted = steps.send(value)
            checks.yielded(wanted)
        except StopIteration as end:
            result = end.value
        except BaseException as error:
            raise self.failure(error, steps) from error
        else:
            return wanted, False
        finally:
            self.ran(perf_counter() - began)
        self._check_end(result, steps, checks)
        return result, True

    def _check_end(self, result: Any, steps: Steps | ModelPages, checks: Checks) -> None:
        try:
            checks.result(result)
        except WrongResult as wrong:
            raise self.failure(wrong, steps) from wrong

    def ran(self, seconds: float, function: Any = None) -> None:
        """Count one call of the hook, which took `seconds`. If it took more than `slow_seconds`, also call
        `report_slow`.
        """
        self.calls += 1
        self.seconds += seconds
        if seconds > self.slow_seconds:
            self._report_slow(seconds, function)

    def _report_slow(self, seconds: float, function: Any) -> None:
        self.report_slow(self, seconds, definition(function or self.function))

    def failure(self, error: BaseException, function: Any) -> GatewayError:
        """Return the error to raise for an exception in a plugin: the exception itself if the contract allows it, or
        else a `PluginFailed` that describes it.

        The contract allows a valid `GatewayError`, except in the hooks of `NEVER_REFUSES`. `function` is the plugin's
        function that raised `error` or returned a wrong result.
        """
        if isinstance(error, PluginFailed):
            return error
        if isinstance(error, GatewayError):
            if self.name not in NEVER_REFUSES and is_valid_error(error):
                return error
            error = WrongResult(f"raised {type(error).__name__}, which is not valid here")
        if isinstance(error, WrongResult):
            return PluginFailed(self.plugin, self.name, str(error), definition(function))
        cause = "".join(traceback.format_exception_only(error)).strip()[:MAX_CAUSE]
        trace = "".join(traceback.format_exception(error, limit=-SHOWN_FRAMES, chain=False))
        return PluginFailed(self.plugin, self.name, cause, self._place(error.__traceback__, function), trace)

    def _place(self, trace: TracebackType | None, function: Any) -> str:
        """Return the file and line in which the plugin failed. They come from the innermost frame of the plugin's code
        in `trace`.

        If there is no such frame, return the file and line in which `function` is defined.
        """
        place = ""
        for frame, line in traceback.walk_tb(trace):
            if package(frame.f_globals.get("__name__")) == self.home:
                place = f"{frame.f_code.co_filename}:{line}"
        return place or definition(function)


def _is_cancelled() -> bool:
    """Return whether the current task is being cancelled. If it is not, the plugin itself has raised the
    `CancelledError`.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def running_hook(frame: FrameType | None) -> FrameType | None:
    """Return the stack frame of the method of `Hook` that runs the plugin's code in `frame`.

    Return None if no hook runs this code.
    """
    own = frame
    while frame is not None and frame.f_code.co_filename != __file__:
        frame = frame.f_back
    if frame is None or frame is own or frame.f_code not in _GUARDS:
        return None
    return frame


_GUARDS: Final = frozenset(
    function.__code__
    for function in (
        Hook.run, Hook.piece, Hook.read, Hook.settled, Hook.as_list, Hook.each, Hook.listed, Hook.feed, Hook.total,
        Hook.joined, Hook.advance,
    )
)  # fmt: skip
"""Code objects of the methods of `Hook` that call plugins. `running_hook` compares stack frames with them."""
NEVER_REFUSES: Final = frozenset(
    {"meter.facts", "error", "reply_headers", "encoder.ping", "encoder.fail", "seen", "seen_event", "filter.done"}
)
"""Hooks that must not raise a `GatewayError`. They run when an error reply is no longer possible, or they make this
reply."""
