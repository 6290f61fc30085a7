"""Tests of filters that read the text of streams and bodies: which events wait for later text, and that no text is
lost.
"""

from types import SimpleNamespace

import orjson
import pytest

from gateway.call.filtered_replies import FilteredStream, filtered_body
from gateway.call.filters import ActiveFilter, AfterCalls, CallFilters, OpenFilter
from gateway.call.plugin_reports import PluginReports
from gateway.call.responses import Batch
from gateway.call.turns import Turns
from gateway.config.model import Config
from gateway.contract.filter import Hold, Settings, hold
from gateway.contract.filter_checks import METHODS
from gateway.contract.hooks import Hook
from gateway.contract.messages import Event, event
from gateway.contract.places import Place, json_bytes
from gateway.contract.plugin_hooks import filter_hooks
from gateway.telemetry.log import configure
from gateway.telemetry.metrics import Metrics
from gateway.upstream.process_pool import ProcessPool
from gateway_plugins.dialects.anthropic_messages.places import places as messages_places
from gateway_plugins.dialects.bedrock_converse.places import places as converse_places
from gateway_plugins.dialects.gemini_generate_content.places import places as gemini_places
from gateway_plugins.dialects.openai_chat.places import places as chat_places
from gateway_plugins.dialects.openai_responses.places import places as responses_places
from tests.helpers.gateway import Lines
from tests.helpers.stages import through

CHUNK = "chat.completion.chunk"


class Holds:
    """A filter that holds back the last three characters of each piece."""

    def text(self, _kind, piece, last):
        return hold(piece, 3, last)


class Stars:
    """A filter that replaces the word `secret` by `***`."""

    def text(self, _kind, piece, _last):
        return piece.replace("secret", "***")


class Invents:
    """A filter that adds a text where the provider sends an empty piece of text."""

    def text(self, _kind, piece, _last):
        return piece or Hold("", "invented")


class FailsLater:
    """A filter that holds back the first piece and fails at the second."""

    def text(self, _kind, piece, _last):
        if len(piece) > 3:
            raise ValueError("a filter may fail")
        return Hold("", piece)


def opened(*objects, passes=True):
    """Return the opened filters of one call. If `passes` is true, the call continues even if a filter fails."""
    client = SimpleNamespace(close=lambda: None)
    filters = CallFilters("id", client, PluginReports(Metrics(Config()), configure(Lines())), AfterCalls())
    for made in objects:
        hooks = filter_hooks("tested", SimpleNamespace(__name__="tests", open=None))
        methods = {name: getattr(made, name) for name in METHODS if hasattr(made, name)}
        filters.opened.append(OpenFilter(ActiveFilter("tested", hooks, Settings(), passes), methods))
    return filters


def hook(places):
    return Hook("tested", "places", "gateway_plugins", places)


async def batches(events):
    for each in events:
        yield Batch([each])


async def arrivals(places, events, *objects):
    """Return a dict whose key is the number of events that the filters have read so far. The value is the data of the
    events that they then pass on.

    The end of the stream counts as one more event.
    """
    stream = FilteredStream(opened(*objects), hook(places), ProcessPool(), Turns())
    come, left = 0, {}

    async def counted():
        nonlocal come
        async for batch in batches(events):
            come += 1
            yield batch
        come += 1

    async for batch in through(stream, counted()):
        assert batch.fault is None
        left.setdefault(come, []).extend(each.data for each in batch.events)
    return left


def chunk(delta, reason=None, **more):
    return event(CHUNK, {"choices": [{"index": 0, "delta": delta, "finish_reason": reason, **more}]})


def call(arguments, index=0):
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


def candidate(*parts, **more):
    return event("", {"candidates": [{"index": 0, "content": {"parts": [*parts]}, **more}]})


def texts(events):
    """Return the strings in the deltas of all events, joined to one text."""
    return "".join(_strings([each["choices"][0]["delta"] for each in events]))


def _strings(value):
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _strings(inner)


async def test_text_that_a_failed_filter_held_is_not_lost():
    events = [chunk({"content": "abc"}), chunk({"content": "def"}), chunk({}, "stop")]
    left = await arrivals(chat_places, events, FailsLater())
    assert texts([each for events in left.values() for each in events]) == "abcdef"


async def test_a_second_filter_gets_the_text_that_a_failed_filter_held():
    events = [chunk({"content": "sec"}), chunk({"content": "ret"}), chunk({}, "stop")]
    left = await arrivals(chat_places, events, FailsLater(), Stars())
    assert texts([each for events in left.values() for each in events]) == "***"


@pytest.mark.parametrize(
    ("places", "first", "then"),
    [
        (chat_places, chunk({"reasoning_content": "thoughts"}), chunk({"content": "answer"})),
        (chat_places, chunk({"reasoning": "thoughts"}), chunk({"content": "answer"})),
        (chat_places, chunk({"reasoning_details": [{"text": "thoughts"}]}), chunk({"content": "answer"})),
        (chat_places, chunk({"reasoning_content": "thoughts"}), chunk(call("{}"))),
        (chat_places, chunk({"content": "answer"}), chunk(call("{}"))),
        (chat_places, chunk(call('{"a": 1}')), chunk(call("{}", 1))),
        (gemini_places, candidate({"text": "thoughts", "thought": True}), candidate({"text": "answer"})),
        (gemini_places, candidate({"text": "answer"}), candidate({"functionCall": {"name": "f", "args": {"a": 1}}})),
    ],
)
async def test_a_text_that_another_follows_does_not_wait_for_the_end(places, first, then):
    left = await arrivals(places, [first, then], Holds())
    assert left[2][0] == first.data


LOGPROBS = {"content": [{"token": "secret", "logprob": -0.1, "bytes": None, "top_logprobs": []}]}
TOKENS = LOGPROBS["content"]
PART = {"type": "output_text", "text": "secret", "logprobs": TOKENS}
RESPONSES_TEXT = {"output_index": 0, "content_index": 0, "logprobs": TOKENS}
COPIES = [
    (chat_places, [chunk({"content": "secret"}, logprobs=LOGPROBS)]),
    (
        responses_places,
        [
            event("response.output_text.delta", {**RESPONSES_TEXT, "delta": "secret"}),
            event("response.output_text.done", {**RESPONSES_TEXT, "text": "secret"}),
            event(
                "response.content_part.done",
                {"output_index": 0, "content_index": 0, "part": PART},
            ),
            event(
                "response.completed",
                {
                    "response": {
                        "output_text": "secret",
                        "output": [
                            {
                                "type": "message",
                                "content": [PART],
                            }
                        ],
                    }
                },
            ),
        ],
    ),
    (
        gemini_places,
        [
            candidate({"text": "secret"}, logprobsResult={"chosenCandidates": [{"token": "secret"}]}),
            candidate({"text": "."}, groundingMetadata={"groundingSupports": [{"segment": {"text": "secret"}}]}),
        ],
    ),
    (
        converse_places,
        [
            event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "secret"}}),
            event("metadata", {"trace": {"guardrail": {"modelOutput": ["secret"]}}}),
        ],
    ),
]


@pytest.mark.parametrize(("places", "events"), COPIES)
async def test_no_value_repeats_a_text_that_a_filter_has_changed(places, events):
    left = await arrivals(places, events, Stars())
    sent = orjson.dumps([*left.values()])
    assert b"***" in sent
    assert b"secret" not in sent


@pytest.mark.parametrize(("places", "events"), COPIES)
async def test_values_that_repeat_text_are_left_where_no_text_changes(places, events):
    left = await arrivals(
        places, [Event(each.kind, each.payload.replace(b"secret", b"public")) for each in events], Stars()
    )
    assert orjson.dumps([data for each in left.values() for data in each]).count(b"public") == sum(
        each.payload.count(b"secret") for each in events
    )


def deep(levels):
    """Return an object with this number of nested levels. orjson can encode at most 254 levels."""
    value = "secret"
    for _ in range(levels):
        value = {"a": value}
    return value


THOUGHT = {
    "reasoning_content": "secret",
    "thinking_blocks": [{"type": "thinking", "thinking": "secret", "signature": "s"}],
    "provider_specific_fields": {"reasoningContentBlocks": [{"reasoningText": {"text": "secret"}}]},
}
"""Thinking as LiteLLM sends it."""
REPLIES = {
    "chat": (chat_places, {"choices": [{"message": {"content": "secret"}, "logprobs": LOGPROBS}]}),
    "chat audio": (chat_places, {"choices": [{"message": {"audio": {"transcript": "secret"}}}]}),
    "chat details": (chat_places, {"choices": [{"message": {"reasoning_details": [{"summary": "secret"}]}}]}),
    "chat thinking": (chat_places, {"choices": [{"message": THOUGHT}]}),
    "chat choices": (chat_places, {"choices": [{"message": {}}, {"index": 1, "message": {"content": "secret"}}]}),
    "responses code": (responses_places, {"output": [{"code": "secret", "outputs": [{"logs": "secret"}]}]}),
    "responses search": (responses_places, {"output": [{"action": {"query": "secret", "queries": ["secret"]}}]}),
    "responses files": (responses_places, {"output": [{"queries": [], "results": [{"text": "secret"}]}]}),
    "responses shell": (responses_places, {"output": [{"output": [{"stdout": "secret", "stderr": "secret"}]}]}),
    "responses refusal": (responses_places, {"output": [{"content": [{"type": "refusal", "refusal": "secret"}]}]}),
    "responses text": (
        responses_places,
        {"output_text": "secret", "output": [{"content": [PART]}]},
    ),
    "messages citations": (
        messages_places,
        {"content": [{"type": "text", "text": "x", "citations": [{"cited_text": "secret"}]}]},
    ),
    "messages program": (
        messages_places,
        {"content": [{"type": "bash_code_execution_tool_result", "content": {"stdout": "secret", "stderr": "secret"}}]},
    ),
    "messages fetch": (
        messages_places,
        {
            "content": [
                {
                    "type": "web_fetch_tool_result",
                    "content": {"content": {"type": "document", "source": {"type": "text", "data": "secret"}}},
                }
            ]
        },
    ),
    "messages mcp": (
        messages_places,
        {"content": [{"type": "mcp_tool_result", "content": [{"type": "text", "text": "secret"}]}]},
    ),
    "messages depth": (messages_places, {"content": [{"type": "tool_use", "input": deep(300)}]}),
    "converse citations": (
        converse_places,
        {
            "output": {
                "message": {
                    "content": [
                        {
                            "citationsContent": {
                                "content": [{"text": "secret"}],
                                "citations": [{"sourceContent": [{"text": "secret"}]}],
                            }
                        }
                    ]
                }
            }
        },
    ),
    "converse trace": (
        converse_places,
        {
            "output": {"message": {"content": [{"text": "secret"}]}},
            "trace": {"guardrail": {"modelOutput": ["secret"]}},
        },
    ),
    "gemini code": (
        gemini_places,
        {
            "candidates": [
                {
                    "content": {
                        "parts": [
                            {"executableCode": {"code": "secret"}}, {"codeExecutionResult": {"output": "secret"}},
                        ]
                    }
                }
            ]
        },
    ),
    "gemini grounding": (
        gemini_places,
        {
            "candidates": [
                {
                    "content": {"parts": [{"text": "secret"}]},
                    "groundingMetadata": {
                        "webSearchQueries": ["secret"],
                        "groundingChunks": [{"retrievedContext": {"text": "secret"}}],
                        "groundingSupports": [{"segment": {"text": "secret"}}],
                    },
                }
            ]
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REPLIES)
async def test_a_filter_sees_each_text_of_a_reply(case):
    places, reply = REPLIES[case]
    body = await filtered_body(opened(Stars()), hook(places), json_bytes(reply), ProcessPool(), Turns())
    assert b"***" in body
    assert b"secret" not in body


STREAMED = {
    "messages citation": (
        messages_places,
        [
            event(
                "content_block_delta",
                {"index": 0, "delta": {"type": "citations_delta", "citation": {"cited_text": "secret"}}},
            )
        ],
    ),
    "converse citation": (
        converse_places,
        [
            event(
                "contentBlockDelta",
                {"contentBlockIndex": 0, "delta": {"citation": {"sourceContent": [{"text": "secret"}]}}},
            )
        ],
    ),
    "converse result": (
        converse_places,
        [event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolResult": [{"text": "secret"}]}})],
    ),
    "chat audio": (chat_places, [chunk({"audio": {"transcript": "secret"}})]),
    "chat thinking": (chat_places, [chunk({"thinking_blocks": THOUGHT["thinking_blocks"]})]),
    "chat thinking twice": (chat_places, [chunk({"reasoning_content": "secret"}), chunk(THOUGHT)]),
    "responses audio": (responses_places, [event("response.audio.transcript.delta", {"delta": "secret"})]),
    "gemini arguments": (
        gemini_places,
        [candidate({"functionCall": {"partialArgs": [{"jsonPath": "$.a", "stringValue": "secret"}]}})],
    ),
}


@pytest.mark.parametrize("case", STREAMED)
async def test_a_filter_sees_each_text_of_a_stream(case):
    places, events = STREAMED[case]
    sent = orjson.dumps([*(await arrivals(places, events, Stars())).values()])
    assert b"***" in sent
    assert b"secret" not in sent


async def test_a_result_in_a_block_does_not_continue_another_block():
    events = [
        event("content_block_delta", {"index": 0, "delta": {"text": "answer"}}),
        event("content_block_stop", {"index": 0}),
        event(
            "content_block_start",
            {"index": 1, "content_block": {"type": "mcp_tool_result", "content": [{"type": "text", "text": "result"}]}},
        ),
        event("content_block_stop", {"index": 1}),
        event("message_stop", {}),
    ]
    left = await arrivals(messages_places, events, Holds())
    assert [len(left.get(number, ())) for number in range(1, 6)] == [0, 2, 0, 2, 1]


async def test_text_that_a_filter_makes_of_an_empty_piece_is_not_passed_on():
    events = [event(CHUNK, {"choices": [{"delta": {"reasoning_content": text}}]}) for text in ("", "real")]

    def thoughts(_event):
        yield Place(("choices", 0, "delta", "reasoning_content"))

    left = await arrivals(thoughts, events, Invents())
    assert "invented" not in repr(left)
