"""Scenarios of simulated providers. A scenario is a predefined reply in no particular dialect. It may also have faults.

A request gets the first of these that exists:

- the next scenario that the test has queued (`Simulator.script`)
- the scenario that the last user text names: `[[scenario: NAME]]`
- the simulator's `default`
- a reply that quotes the prompt
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

SIGNATURE: Final = "sig-sim-"
"""The prefix of the signatures of simulated thinking. A request is refused if its thinking has any other signature."""

_ASKED: Final = re.compile(r"\[\[scenario:\s*([a-z_]+)\s*\]\]")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool call by the model. `arguments` is None for a call without arguments.

    >>> scenarios.Tool("weather", {"city": "Rome"}).name
    'weather'
    """

    name: str
    arguments: Mapping[str, Any] | None = None
    id: str = ""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The token counts that a reply reports. A count that is None is estimated from the texts.

    >>> scenarios.Tokens(input=3).cache_read
    0
    """

    input: int | None = None
    output: int | None = None
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0


@dataclass(frozen=True, slots=True)
class Canned:
    """One predefined reply, which each simulator writes in its dialect.

    >>> scenarios.Canned(text=("Hel", "lo")).whole_text
    'Hello'
    """

    text: tuple[str, ...] = ()
    """The text, divided into the deltas of a stream."""
    thinking: str = ""
    redacted: str = ""
    """Encrypted thinking in base64."""
    tools: tuple[Tool, ...] = ()
    tokens: Tokens = Tokens()
    stop: str = ""
    """The stop reason, in the words of Anthropic and Converse. If it is "", the reply has the stop reason `tool_use` if
    it has tool calls, and `end_turn` if it has none.
    """

    @property
    def stop_reason(self) -> str:
        return self.stop or ("tool_use" if self.tools else "end_turn")

    @property
    def whole_text(self) -> str:
        return "".join(self.text)


@dataclass(frozen=True, slots=True)
class Raw:
    """A reply that is sent byte for byte, such as a recorded one.

    >>> scenarios.Raw(b"data: x", content_type="text/event-stream").status
    200
    """

    body: bytes
    status: int = 200
    content_type: str = "application/json"


class Gate:
    """Holds back the events of a stream, except the first. The test calls `let_pass` to let the next events pass.

    So the test can check what the client has received before the next event.

    >>> gate = scenarios.Gate()
    >>> gate.let_pass(2)
    >>> await gate.wait()
    """

    def __init__(self) -> None:
        self._permits = asyncio.Semaphore(0)

    def let_pass(self, events: int = 1) -> None:
        for _ in range(events):
            self._permits.release()

    async def wait(self) -> None:
        await self._permits.acquire()


@dataclass(frozen=True, slots=True)
class Scenario:
    """A reply and its faults.

    >>> scenarios.Scenario(scenarios.Canned(text=("Hello",)), end_after=1).reply.text
    ('Hello',)
    """

    reply: Canned | None = None
    """The reply. None stands for the simulator's default answer to the prompt (`answer`)."""
    raw: Raw | None = None
    """Bytes to send instead of a rendered reply."""
    error: str = ""
    """The name of an AWS exception (a key of `bedrock.STATUS`). The error is sent in place of the reply, or within its
    stream (`fail_after`). The value is "" for no error.
    """
    message: str = "simulated"
    fail_after: int | None = None
    """Number of streamed events after which the error is sent. If it is None, the error is sent in place of the reply.
    """
    stall_after: int | None = None
    """Number of streamed events before a pause of `stall_seconds`."""
    stall_seconds: float = 3600
    end_after: int | None = None
    """Number of streamed events after which the reply ends cleanly, but without its terminal event."""
    cut_at: int | None = None
    """Number of streamed bytes before the connection is cut."""
    split: int = 0
    """Number of bytes of each write to the network. It is 0 for one write per event."""
    delay: float = 0
    """Number of seconds before the reply or its first event."""
    gate: Gate | None = field(default=None, compare=False)


def text(*deltas: str, **tokens: int) -> Scenario:
    """Return a scenario whose reply is a text. Each of `deltas` is one delta of the stream. `tokens` has fields of
    `Tokens`.

    >>> scenarios.text("Hel", "lo", input=3, output=2).reply.whole_text
    'Hello'
    """
    return Scenario(Canned(text=deltas, tokens=Tokens(**tokens)))


def tools(*calls: Tool, before: str = "") -> Scenario:
    """Return a scenario whose reply calls tools, after the text `before`.

    >>> scenarios.tools(scenarios.Tool("weather", {"city": "Rome"})).reply.stop_reason
    'tool_use'
    """
    return Scenario(Canned(text=(before,) if before else (), tools=calls))


def thinking(thought: str, *deltas: str, redacted: str = "", calls: tuple[Tool, ...] = ()) -> Scenario:
    """Return a scenario whose reply has thinking, then a text, then tool calls.

    >>> scenarios.thinking("six times seven", "42").reply.thinking
    'six times seven'
    """
    return Scenario(Canned(text=deltas, thinking=thought, redacted=redacted, tools=calls))


def error(name: str, message: str = "simulated") -> Scenario:
    """Return a scenario with an error in place of a reply. `name` is the name of an exception of AWS.

    >>> scenarios.error("ThrottlingException", "slow down").message
    'slow down'
    """
    return Scenario(error=name, message=message)


def error_in_stream(name: str, after: int = 3, message: str = "simulated") -> Scenario:
    """Return a scenario whose stream has an error after a number of events.

    >>> scenarios.error_in_stream("modelStreamErrorException", after=2).fail_after
    2
    """
    return replace(NAMED["text"], error=name, message=message, fail_after=after)


def cut(at: int) -> Scenario:
    """Return a scenario whose connection is cut after a number of bytes of the stream.

    >>> scenarios.cut(400).cut_at
    400
    """
    return replace(NAMED["text"], cut_at=at)


def raw(body: bytes, content_type: str = "application/json", status: int = 200) -> Scenario:
    """Return a scenario in which the reply is sent byte for byte.

    >>> scenarios.raw(b'{"text": "hi"}').raw.status
    200
    """
    return Scenario(raw=Raw(body, status, content_type))


_PLAIN: Final = Canned(text=("Hello", " from", " a simulated", " model."), tokens=Tokens(input=12, output=7))
_CACHED: Final = Tokens(input=3, output=7, cache_read=1000, cache_write_5m=200, cache_write_1h=50)

NAMED: Final[Mapping[str, Scenario]] = {
    "text": Scenario(_PLAIN),
    "thinking": Scenario(Canned(text=("Forty-", "two."), thinking="Six times seven is forty-two.")),
    "redacted": Scenario(Canned(text=("Done.",), redacted="ZW5jcnlwdGVkIHRob3VnaHQ=")),
    "cached": Scenario(replace(_PLAIN, tokens=_CACHED)),
    "max_tokens": Scenario(replace(_PLAIN, stop="max_tokens")),
    "long": Scenario(Canned(text=tuple(f"word {number} " for number in range(500)))),
    "unicode": Scenario(Canned(text=("Grüße, ", "世界 ", "👩‍👩‍👧 ", "é́")), split=1),
    "throttle": error("ThrottlingException", "Too many requests, please wait before trying again."),
    "error": error("InternalServerException", "The system encountered an unexpected error during processing."),
    "error_in_stream": Scenario(_PLAIN, error="modelStreamErrorException", fail_after=3),
    "stall": Scenario(_PLAIN, stall_after=2),
    "cut": Scenario(_PLAIN, cut_at=400),
    "no_end": Scenario(_PLAIN, end_after=3),
}  # fmt: skip
"""The scenarios that a prompt can name, by name. A prompt can also name `tools`. The reply then calls the first two
tools of the request.
"""


def named_scenario(prompt: str, offered: list[str]) -> Scenario | None:
    """Return the scenario that a prompt names, or None if the prompt names none or an unknown one.

    `offered` has the names of the tools that the request offers.
    """
    match = _ASKED.search(prompt)
    if match is None:
        return None
    if match[1] == "tools":
        return tools(*(Tool(name, {"asked": "for"}) for name in offered[:2]), before="Let me look.")
    return NAMED.get(match[1])


def answer(prompt: str, result: str) -> Canned:
    """Return the default answer. It quotes the tool result, or the prompt if there is no result."""
    if result:
        return Canned(text=("The tool", f" said: {result[:200]}"))
    return Canned(text=("Hello", " from a simulated", " model.", f" You said: {prompt[:200]}"))
