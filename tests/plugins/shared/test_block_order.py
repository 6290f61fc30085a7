"""Tests that interleaved blocks of a stream reach the client one after the other, in the order of their indexes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.flag import event
from gateway_plugins.dialects.anthropic_messages import walk as messages_walk
from gateway_plugins.dialects.bedrock_converse import walk as converse_walk
from gateway_plugins.shared.fields import MAX_DEPTH, is_deep
from tests.plugins.dialects.test_reply_readers import streamed


def messages_blocks():
    """Yield the events of each of four Messages blocks, as one list for each block."""
    starts = [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {}},
    ]
    deltas = [
        [{"type": "thinking_delta", "thinking": "Hm"}, {"type": "signature_delta", "signature": "s"}],
        [{"type": "text_delta", "text": "An"}, {"type": "text_delta", "text": "swer"}],
        [{"type": "input_json_delta", "partial_json": piece} for piece in ('{"a":', "1}")],
        [{"type": "input_json_delta", "partial_json": piece} for piece in ('{"b":', "2}")],
    ]
    for index, (start, pieces) in enumerate(zip(starts, deltas, strict=True)):
        yield [
            event("content_block_start", {"index": index, "content_block": start}),
            *(event("content_block_delta", {"index": index, "delta": piece}) for piece in pieces),
            event("content_block_stop", {"index": index}),
        ]


def converse_blocks():
    deltas = [
        [{"reasoningContent": {"text": "Hm"}}, {"reasoningContent": {"signature": "s"}}],
        [{"text": "An"}, {"text": "swer"}],
        [{"toolUse": {"input": piece}} for piece in ('{"a":', "1}")],
        [{"toolUse": {"input": piece}} for piece in ('{"b":', "2}")],
    ]
    names = {2: ("a", "f"), 3: ("b", "g")}
    for index, pieces in enumerate(deltas):
        start = []
        if index in names:
            tool = dict(zip(("toolUseId", "name"), names[index], strict=True))
            start = [event("contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": tool}})]
        yield [
            *start,
            *(event("contentBlockDelta", {"contentBlockIndex": index, "delta": piece}) for piece in pieces),
            event("contentBlockStop", {"contentBlockIndex": index}),
        ]


STREAMS = {
    "messages": (messages_walk, list(messages_blocks()), [
        event("message_delta", {"delta": {"stop_reason": "tool_use"}}), event("message_stop", {}),
    ]),
    "converse": (converse_walk, list(converse_blocks()), [event("messageStop", {"stopReason": "tool_use"})]),
}  # fmt: skip


def in_order(name, order):
    """Return the method calls that the writer gets if the blocks' events come in this order.

    `order` is a list of block indexes. Each index stands for the next event of that block.
    """
    walk, blocks, end = STREAMS[name]
    left = [iter(block) for block in blocks]
    return streamed(walk, *(next(left[index]) for index in order), *end)


@pytest.mark.parametrize("name", STREAMS)
@given(st.data())
def test_blocks_that_begin_in_order_come_out_in_order(name, data):
    blocks = STREAMS[name][1]
    plain = [index for index, block in enumerate(blocks) for _ in block]
    order, left = [], [len(block) for block in blocks]
    while any(left):
        ready = [index for index, events in enumerate(left) if events and (index == 0 or index - 1 in order)]
        order.append(data.draw(st.sampled_from(ready)))
        left[order[-1]] -= 1
    assert in_order(name, order) == in_order(name, plain)


@pytest.mark.parametrize("name", STREAMS)
def test_all_events_of_two_blocks_may_alternate(name):
    """Check that two parallel tool calls, whose pieces alternate in the stream, are written one after the other."""
    blocks = STREAMS[name][1]
    plain = [index for index, block in enumerate(blocks) for _ in block]
    first = [index for index in plain if index < 2]
    calls = [index for pair in itertools.zip_longest(plain[plain.index(2):plain.index(3)], plain[plain.index(3):])
             for index in pair]  # fmt: skip
    assert in_order(name, [*first, *calls]) == in_order(name, plain)


@pytest.mark.parametrize("name", STREAMS)
def test_a_provider_without_ends_of_blocks_is_read_to_the_end(name):
    walk, blocks, end = STREAMS[name]
    without = [each for block in blocks for each in block if not each.kind.endswith(("_stop", "Stop"))]
    assert streamed(walk, *without, *end) == streamed(walk, *(each for block in blocks for each in block), *end)


def nested(depth, innermost, kind):
    value = innermost
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize(("innermost", "levels"), [(1, 0), ([], 1), ({}, 1), ([1, []], 2)])
def test_a_value_is_too_deep_from_the_first_level_beyond_the_limit(innermost, levels, kind):
    assert not is_deep(nested(MAX_DEPTH - levels, innermost, kind))
    assert is_deep(nested(MAX_DEPTH - levels + 1, innermost, kind))
