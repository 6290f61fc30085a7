"""The circuit breaker of one model at one provider.

    closed --failures or outlier--> open --open_seconds--> half_open --successes--> slow_start --time--> closed
                                     ^                         |                        |
                                     +--------a failure--------+-----many failures------+

- Closed: all attempts pass, and their results are counted.
- Open: no attempt passes. If the circuit opens again before it was closed, it stays open twice as long.
- Half open: a few attempts pass as probes. A probe is a call of a client. The gateway sends no test requests.
- Slow start: a growing share of the attempts passes, because a provider that has just recovered may have cold caches.
- The result of an attempt is not counted if the circuit has opened or closed since the attempt began.

If a call has no other provider, it is attempted even if the circuit is open (`circuits.py`). Such attempts are counted
like probes. Nothing here knows why an attempt failed.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from gateway.config.model import CircuitBreaker
from gateway.upstream.health.window import Window

State = Literal["closed", "open", "half_open", "slow_start"]
Cause = Literal["", "failures", "outlier", "key_refused", "throttled"]
"""The reason why a circuit is open or half open. It is "" in the other states."""
STATES: Final[tuple[State, ...]] = ("closed", "open", "half_open", "slow_start")

MAX_DOUBLINGS: Final = 3
"""Maximum number of times that `open_seconds` is doubled: 15 seconds become two minutes at most.

Doubling makes probes rarer. A probe is a client's call, which is slow if the probe fails. But with too many doublings,
a provider would stay unused long after it has recovered.
"""
FIRST_SHARE: Final = 0.1
"""Share of the attempts that pass at the beginning of the slow start."""


class CircuitState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a circuit, for the process that replaces this one. Only circuits that hold back attempts have such a
    state.

    It does not contain the counts of attempts in the window. All times are durations in seconds, because two processes
    may have different clocks.
    """

    state: State
    cause: Cause = ""
    age: float = 0.0
    """Seconds since the last change of the state."""
    rest: float = 0.0
    """Seconds for which an open circuit stays open. Then it becomes half open."""
    held: float = 0.0
    """Remaining seconds of the wait that the provider has demanded (`Retry-After`)."""
    doublings: int = 0
    throttles: int = 0
    mean_seconds: float | None = None


class Circuit:
    """The circuit breaker of one model at one provider. All times are in seconds of a monotonic clock."""

    __slots__ = (
        "_credit", "_doublings", "_epoch", "_probed_at", "_probes", "_successes", "cause", "held_until", "mean_seconds",
        "passes_all", "settings", "since", "state", "throttles", "until", "window",
    )  # fmt: skip

    def __init__(self, settings: CircuitBreaker) -> None:
        self.settings = settings
        self.window = Window(settings.window_seconds)
        self.state: State = "closed"
        self.cause: Cause = ""
        self.since = 0.0
        """The time of the last change of the state."""
        self.until = 0.0
        """The time at which an open circuit becomes half open."""
        self.held_until = 0.0
        """The end of the wait that the provider has demanded (`Retry-After`)."""
        self.throttles = 0
        """Number of attempts that the provider has throttled."""
        self.mean_seconds: float | None = None
        """The moving mean of the seconds until a successful reply began. It is None before the first such reply."""
        self.passes_all = True
        """Whether the circuit lets every attempt pass. It is kept as a value, because it is read for every attempt."""
        self._epoch = float("-inf")
        """The time of the last opening or closing. Attempts that began before it are not counted."""
        self._doublings = 0
        self._probes = 0
        """Number of probes in the present group, which has at most `half_open` probes."""
        self._probed_at = 0.0
        """The time at which the circuit let the last probe pass."""
        self._successes = 0
        self._credit = 0.0

    def configured(self, settings: CircuitBreaker) -> None:
        """Use other settings from now on. The state is kept. The counts are lost if the length of the window
        changes.
        """
        if settings.window_seconds != self.settings.window_seconds:
            self.window = Window(settings.window_seconds)
        self.settings = settings
        if not settings.enabled:
            self.held_until, self._epoch = 0.0, float("-inf")
            self._become("closed", "", self.since)

    def may_try(self, now: float) -> bool:
        """Return whether an attempt may be made. In the state half open, this attempt counts as a probe."""
        if self.held_until > now:
            return False
        match self.state:
            case "open":
                if now < self.until:
                    return False
                self._become("half_open", self.cause, now)
                self._probes = 0
                return self._may_probe(now)
            case "half_open":
                return self._may_probe(now)
            case "slow_start":
                return self._may_start(now)
        self.passes_all = True
        return True

    def succeeded(self, now: float, seconds: float) -> None:
        """Count a successful attempt, which began `seconds` ago."""
        if now - seconds < self._epoch:
            return
        self.window.add(now, failed=False)
        mean = self.mean_seconds
        self.mean_seconds = seconds if mean is None else mean + (seconds - mean) * 0.1
        if self.state in {"open", "half_open"}:
            self._successes += 1
            if self._successes >= self.settings.half_open:
                self._close(now)

    def failed(self, now: float, seconds: float | None) -> None:
        """Count a failed attempt. `seconds` is the time since the attempt began. It is None if it is not known."""
        if seconds is not None and now - seconds < self._epoch:
            return
        self.window.add(now, failed=True)
        self._successes = 0
        settings, window = self.settings, self.window
        if not settings.enabled:
            return
        if self.state == "half_open":
            self.open(now, "failures")
        elif self.state != "open":
            self._end_slow_start(now)
            if window.calls >= settings.calls and window.failures >= settings.failures * window.calls:
                self.open(now, "failures")

    def throttled(self, now: float, seconds: float) -> None:
        """Count an attempt that the provider has throttled. For the next `seconds`, the circuit allows no attempt."""
        self.throttles += 1
        if seconds > 0 and self.settings.enabled:
            self.held_until = max(self.held_until, now + seconds)
            self.passes_all = False

    def open(self, now: float, cause: Cause) -> None:
        """Open the circuit, so that no attempt passes for a while."""
        if self.state == "closed":
            self._doublings = 0
        self.until = now + self.settings.open_seconds * 2**self._doublings
        self._doublings = min(self._doublings + 1, MAX_DOUBLINGS)
        self._epoch = now
        self._successes = 0
        self._become("open", cause, now)

    def read(self, now: float) -> tuple[State, Cause, float | None]:
        """Return the state at `now`, its cause, and the seconds until an attempt may pass.

        The seconds are None if an attempt may pass now.
        """
        if self.held_until > now and (self.state != "open" or self.held_until > self.until):
            return "open", "throttled", self.held_until - now
        if self.state == "slow_start" and now - self.since >= self.settings.slow_start_seconds:
            return "closed", "", None
        if self.state == "open":
            # only a call makes the circuit half open, but none may have come
            return ("open", self.cause, self.until - now) if now < self.until else ("half_open", self.cause, None)
        return self.state, self.cause, None

    def remembered(self, now: float) -> CircuitState | None:
        """Return the state for the process that replaces this one, or None if the circuit lets every attempt pass."""
        state, cause, _ = self.read(now)
        if state == "closed":
            return None
        if cause == "throttled":
            state, cause = self.state, self.cause
        return CircuitState(
            state=state,
            cause=cause,
            age=now - self.since,
            rest=max(0.0, self.until - now),
            held=max(0.0, self.held_until - now),
            doublings=self._doublings,
            throttles=self.throttles,
            mean_seconds=self.mean_seconds,
        )

    def adopt(self, former: CircuitState, now: float) -> None:
        """Continue with the state that the circuit had in the replaced process.

        - A half-open circuit becomes open. The next attempt makes it half open again.
        - An open circuit stays open at most as long as the settings of this process allow.
        - If these settings switch the circuit breaker off, the circuit stays closed.
        """
        if not self.settings.enabled:
            return
        self._doublings = min(max(0, former.doublings), MAX_DOUBLINGS)
        self.throttles, self.mean_seconds = former.throttles, former.mean_seconds
        self.held_until = now + max(0.0, former.held)
        longest = self.settings.open_seconds * 2**MAX_DOUBLINGS
        self.until = now + (min(max(0.0, former.rest), longest) if former.state == "open" else 0.0)
        self._epoch = now
        self._become("open" if former.state == "half_open" else former.state, former.cause, now - max(0.0, former.age))
        self.passes_all = self.state == "closed" and self.held_until <= now

    def rests(self, now: float) -> bool:
        """Return whether the circuit is open at `now`, so that it allows no attempt.

        If a closed circuit only waits because of the provider's `Retry-After`, the result is False.
        """
        return self.state == "open" and now < self.until

    def counts(self, now: float) -> tuple[int, int]:
        """Return the numbers of attempts and failures in the window."""
        return self.window.read(now)

    def _close(self, now: float) -> None:
        self.window.clear()
        self._epoch = now
        self._credit = 1.0
        self._become("slow_start" if self.settings.slow_start_seconds > 0 else "closed", "", now)

    def _become(self, state: State, cause: Cause, now: float) -> None:
        self.state, self.cause, self.since = state, cause, now
        self.passes_all = state == "closed" and self.held_until <= now

    def _end_slow_start(self, now: float) -> None:
        """Close the circuit if its slow start is over."""
        if self.state == "slow_start" and now - self.since >= self.settings.slow_start_seconds:
            self._become("closed", "", now)

    def _may_probe(self, now: float) -> bool:
        if self._probes >= self.settings.half_open:
            # the end of a probe is not always reported, for example if its client has left; so a new group begins later
            if now - self._probed_at < self.settings.open_seconds:
                return False
            self._probes = 0
        self._probes, self._probed_at = self._probes + 1, now
        return True

    def _may_start(self, now: float) -> bool:
        """Return whether an attempt may be made during the slow start. The share of allowed attempts grows linearly
        with time.
        """
        self._end_slow_start(now)
        if self.state == "closed":
            return True
        self._credit += max((now - self.since) / self.settings.slow_start_seconds, FIRST_SHARE)
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True
