"""The cases: what is measured, on which systems, with how many connections."""

from dataclasses import dataclass

from tests.bench.peers import BEDROCK_ACCESS_GATEWAY, LITELLM, PORTKEY, TENSORZERO
from tests.bench.systems import BARE, IRISGATE, MANY_MODELS, NGINX, System
from tests.bench.traffic import CHAT, CHAT_STREAM, CONVERSE, CONVERSE_MODEL, CONVERSE_STREAM, Request

OWN = "own"
"""The title of a column in the report. In some cases, the gateway is measured twice, and this column has the second
result: for example, native calls in a case with translated calls. The case's title says what is measured.
"""


@dataclass(frozen=True)
class Lane:
    """A system and the request that is sent to it. `column` is the title of the report's column for their figures."""

    column: str
    system: System
    request: Request


@dataclass(frozen=True)
class Case:
    """A measurement of several systems in turn. The first item of `lanes` is compared with the others.

    A lane is a system with the request that is sent to it.
    """

    name: str
    title: str
    lanes: tuple[Lane, ...]
    connections: int
    chunks: int = 0
    """Number of chunks of each stream. It is 0 for replies that are not streamed."""
    interval_ms: int = 0
    rounds: int = 5
    window_ms: int = 1200
    is_memory_measured: bool = False
    """Whether the memory of each open stream is measured too."""


def _lanes(request, *systems):
    return tuple(Lane(system.name, system, request) for system in systems)


_CHAT, _CHAT_STREAM = Request(CHAT), Request(CHAT_STREAM)
_CONVERSE, _CONVERSE_STREAM = Request(CONVERSE, CONVERSE_MODEL), Request(CONVERSE_STREAM, CONVERSE_MODEL)
_TO_CONVERSE, _TO_CONVERSE_STREAM = Request(CHAT, CONVERSE_MODEL), Request(CHAT_STREAM, CONVERSE_MODEL)
_TURN = Request(CHAT, kilobytes=200)
_TURN_TO_CONVERSE = Request(CHAT, CONVERSE_MODEL, kilobytes=200)
_US = (IRISGATE, BARE, NGINX)
_PEERS = (TENSORZERO, PORTKEY, LITELLM)


def _translated(name, title, request, native, connections, **stream):
    """Return a case in which Chat requests are translated to Converse.

    The gateway is also measured with the request `native`, which needs no translation.
    """
    lanes = (
        Lane(IRISGATE.name, IRISGATE, request),
        Lane(OWN, IRISGATE, native),
        *_lanes(request, PORTKEY, LITELLM, BEDROCK_ACCESS_GATEWAY),
    )
    return Case(name, title, lanes, connections, **stream)


def _large(megabytes, connections, rounds, window_ms):
    return Case(
        f"body-{megabytes}",
        f"call with an image of {megabytes} MB, {connections} connections",
        _lanes(Request(CHAT, megabytes=megabytes), *_US),
        connections,
        rounds=rounds,
        window_ms=window_ms,
    )


CASES = (
    Case("call-32", "call of 1 KB, 32 connections", _lanes(_CHAT, *_US, *_PEERS), 32),
    Case("call-1", "call of 1 KB, 1 connection", _lanes(_CHAT, *_US), 1),
    Case("call-256", "call of 1 KB, 256 connections", _lanes(_CHAT, *_US), 256),
    Case("converse", "native Converse call, 32 connections", _lanes(_CONVERSE, *_US), 32),
    Case(
        "chunk",
        "native Chat chunk, 50 streams x 20 ms",
        _lanes(_CHAT_STREAM, *_US, *_PEERS),
        50,
        chunks=100,
        interval_ms=20,
        window_ms=1500,
    ),
    Case(
        "converse-chunk",
        "native Converse chunk, 50 streams x 20 ms",
        _lanes(_CONVERSE_STREAM, *_US),
        50,
        chunks=100,
        interval_ms=20,
        window_ms=1500,
    ),
    Case(
        "streams",
        "native Chat chunk, 500 streams x 200 ms",
        _lanes(_CHAT_STREAM, *_US),
        500,
        chunks=25,
        interval_ms=200,
        window_ms=3000,
        rounds=3,
        is_memory_measured=True,
    ),
    _translated(
        "translated-chunk",
        "Chat chunk of a Converse stream, 50 streams x 20 ms; own: the native Converse stream",
        _TO_CONVERSE_STREAM,
        _CONVERSE_STREAM,
        50,
        chunks=100,
        interval_ms=20,
        window_ms=1500,
    ),
    _translated(
        "translated-call",
        "Chat call of Converse, 32 connections; own: the native Converse call",
        _TO_CONVERSE,
        _CONVERSE,
        32,
    ),
    Case("turn", "turn of a chat of 200 KB with 20 tools, 16 connections", _lanes(_TURN, *_US, *_PEERS), 16),
    _translated(
        "translated-turn",
        "the same turn of Converse, 16 connections; own: the native turn",
        _TURN_TO_CONVERSE,
        _TURN,
        16,
    ),
    _large(1, 4, 5, 1200),
    _large(4, 4, 5, 1500),
    _large(20, 2, 3, 3000),
    Case(
        "many-models",
        "call with 10,000 models and grants, 32 connections; own: with 2 models",
        (Lane(IRISGATE.name, MANY_MODELS, _CHAT), Lane(OWN, IRISGATE, _CHAT)),
        32,
    ),
)
STARTS = _lanes(_CHAT, IRISGATE, BARE, NGINX, *_PEERS)
"""The systems whose start is measured, each with its first request. The measurement is the CPU time until the answer,
and the memory after it.
"""
START_ROUNDS = 3
