"""Tests that the size of an event's text is found without decoding the event, and equals the size after decoding."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import json_api
from gateway.contract.flag import Event
from gateway_plugins import bedrock_converse, openai_chat
from gateway_plugins.dialects.anthropic_messages import text as messages
from gateway_plugins.dialects.openai_responses import facts as responses

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ['"delta"', '"delta": {"text": "x"}', "\\", 'a\\"b', "\n", "", "é", "\U0001f600", "null"]
)
NAMES = st.sampled_from(
    ["text", "thinking", "partial_json", "content", "role", "type", "signature", "reasoning_content", "delta", "input"]
)
DELTAS = TEXTS | st.dictionaries(NAMES, TEXTS | st.none(), max_size=3) | st.none() | st.lists(TEXTS, max_size=2)


def written(value, separators, *, escaped):
    return json.dumps(value, separators=separators, ensure_ascii=escaped).encode()


def decoded(*names):
    """Return a function that decodes an event, and returns the number of bytes of text in its field `delta`.

    The text is in the fields `names` of the delta. Without names, the delta is a string and is itself the text.
    """

    def size(payload):
        delta = json.loads(payload).get("delta")
        if not names:
            return json_api.text_bytes(delta)
        return json_api.text_bytes(*(delta.get(name) for name in names)) if isinstance(delta, dict) else 0

    return size


FLAGS = {
    "messages": (messages.output_bytes, "content_block_delta", decoded("text", "thinking", "partial_json")),
    "converse": (bedrock_converse.output_bytes, "contentBlockDelta", decoded("text")),
    "responses": (responses.output_bytes, "response.output_text.delta", decoded()),
}


@pytest.mark.parametrize("flag", FLAGS)
@given(delta=DELTAS, more=st.dictionaries(NAMES, TEXTS, max_size=2), spaced=st.booleans(), escaped=st.booleans())
def test_a_size_is_that_of_the_decoded_event(flag, delta, more, spaced, escaped):
    size, kind, expected = FLAGS[flag]
    payload = written({**more, "delta": delta, "index": 0}, (", ", ": ") if spaced else (",", ":"), escaped=escaped)
    assert size(Event(kind, payload)) == expected(payload)


@given(delta=DELTAS, spaced=st.booleans(), escaped=st.booleans(), number=st.integers(1, 2))
def test_a_size_of_chat_is_that_of_all_choices(delta, spaced, escaped, number):
    choices = [{"index": at, "delta": delta, "finish_reason": None} for at in range(number)]
    payload = written({"choices": choices}, (", ", ": ") if spaced else (",", ":"), escaped=escaped)
    one = 0
    if isinstance(delta, dict):
        one = json_api.text_bytes(delta.get("content"), delta.get("reasoning_content"))
    assert openai_chat.output_bytes(Event(openai_chat.CHUNK, payload)) == one * number


class Undecoded(Event):
    """An event that must not be decoded."""

    @property
    def data(self):
        raise AssertionError("the event is decoded")


@pytest.mark.parametrize(
    ("flag", "kind", "payload"),
    [
        (
            openai_chat,
            openai_chat.CHUNK,
            b'{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason": null}],"usage" : null}',
        ),
        (bedrock_converse, "contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"hi"},"p":"abc"}'),
        (
            messages,
            "content_block_delta",
            b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}',
        ),
        (responses, "response.output_text.delta", b'{"type":"response.output_text.delta","delta":"hi","logprobs":[]}'),
    ],
    ids=["chat", "converse", "messages", "responses"],
)
def test_usual_pieces_are_not_decoded(flag, kind, payload):
    assert flag.output_bytes(Undecoded(kind, payload)) == 2


def test_a_chunk_of_chat_is_decoded_only_for_facts():
    """Check which chunks of a Chat stream are decoded: the first one, and later only those with a finish reason or
    usage.
    """
    piece = b'{"model":"m","service_tier":"t","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":%b}]%b}'
    plain, ended = piece % (b"null", b',"usage":null'), piece % (b'"stop"', b',"usage":{"prompt_tokens":3}')
    meter, decoder = openai_chat.ChatMeter(), openai_chat.ChatDecoder(hide_usage=False)
    for payload, kind in ((plain, Event), (plain, Undecoded), (ended, Event)):
        meter.feed(kind(openai_chat.CHUNK, payload))
        decoder._is_last(kind(openai_chat.CHUNK, payload))
    facts = meter.facts()
    assert (meter._model, meter._tier, facts.stop, facts.usage.input) == ("m", "t", "stop", 3)
    assert (decoder._promised, decoder._reported, decoder._is_finished()) == (True, True, True)
