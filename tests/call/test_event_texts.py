"""Tests of stream events that only continue a block. Of such an event, nothing but the text is read."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import event_texts
from gateway.call.event_texts import EventTexts
from gateway.call.text_blocks import Block
from gateway.contract.errors import PluginFailed
from gateway.contract.hooks import Hook
from gateway.contract.messages import Event, event
from gateway.contract.places import End, Place
from gateway_plugins.dialects.anthropic_messages.places import places as messages_places
from gateway_plugins.dialects.bedrock_converse.places import places as converse_places
from gateway_plugins.dialects.gemini_generate_content.places import places as gemini_places
from gateway_plugins.dialects.openai_chat.places import places as chat_places
from gateway_plugins.dialects.openai_responses.places import places as responses_places

PIECE = (End("thinking"), Place(("text",), block="answer"))


def of_event(each):
    """Return the places of the texts in an event, as a plugin's function `places` does.

    Events with a text share one tuple object, which is made once. Each event without a text gets a new list.
    """
    return PIECE if "text" in each.data else [End("answer")]


def chunk(**data):
    return event("chunk", data)


def texts_after(first, places=of_event):
    """Return an `EventTexts` (a reader of the texts in events) that has read the event `first` and stored its block."""
    texts = EventTexts(Hook("flagged", "places", "tests", places))
    items = texts.next(first)
    texts.remember(items[-1][0].path, Block("answer", "text"))
    return texts


def test_an_event_that_only_continues_a_block_gives_its_text():
    texts = texts_after(chunk(text="a"))
    assert texts.next(chunk(text="b")) == "b"
    assert texts.next(chunk(text="")) == ""
    assert texts.block.name == "answer"


def test_an_event_with_other_places_gives_all_its_items():
    texts = texts_after(chunk(text="a"))
    assert texts.next(chunk(other="b")) == [(End("answer"), "", False)]


def test_equal_places_that_may_have_changed_give_all_items():
    texts = texts_after(chunk(text="a"), lambda _event: [*PIECE])
    assert texts.next(chunk(text="b")) == [(PIECE[0], "", False), (PIECE[1], "b", False)]


def test_a_value_that_is_no_text_is_json_although_the_places_are_the_same():
    texts = texts_after(chunk(text="a"))
    assert texts.next(chunk(text={"b": 1}))[-1] == (PIECE[1], '{"b":1}', True)


def test_all_items_are_given_after_the_block_is_forgotten():
    texts = texts_after(chunk(text="a"))
    texts.forget()
    assert texts.next(chunk(text="b"))[-1] == (PIECE[1], "b", False)
    assert texts_after(chunk(text="a")).all(chunk(text="b"))[-1] == (PIECE[1], "b", False)


@pytest.mark.parametrize(
    "each", [Event("chunk", b""), Event("chunk", b'{"text": "b"}', b""), Event("chunk", b"no JSON")]
)
def test_an_event_that_clients_do_not_get_or_cannot_read_has_no_texts(each):
    assert not texts_after(chunk(text="a")).next(each)


def test_a_place_without_a_value_is_the_plugins_fault():
    texts = texts_after(chunk(text="a"), lambda _event: PIECE)
    with pytest.raises(PluginFailed) as failed:
        texts.next(chunk(other="b"))
    assert (failed.value.plugin, failed.value.cause) == ("flagged", "KeyError: 'text'")
    assert failed.value.place.startswith(__file__)


PIECES = {
    "Chat": (chat_places, "chat.completion.chunk", {"choices": [{"index": 1, "delta": {"content": "TEXT"}}]}),
    "Messages": (messages_places, "content_block_delta", {"index": 1, "delta": {"type": "text_delta", "text": "TEXT"}}),
    "Converse": (converse_places, "contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "TEXT"}}),
    "Responses": (
        responses_places, "response.output_text.delta", {"output_index": 1, "content_index": 0, "delta": "TEXT"},
    ),
    "Gemini": (gemini_places, "", {"candidates": [{"index": 1, "content": {"parts": [{"text": "TEXT"}]}}]}),
}  # fmt: skip


@pytest.mark.parametrize("dialect", PIECES)
def test_most_events_of_each_dialect_only_continue_a_block(dialect):
    places, kind, data = PIECES[dialect]
    first = event(kind, data)
    texts = texts_after(first, places)
    assert texts.next(Event(kind, first.payload.replace(b"TEXT", b"more"))) == "more"


def counting(asked):
    """Return a plugin function `places`, which returns the places of the texts in an event. It appends each event to
    the list `asked`.
    """

    def places(each):
        asked.append(each)
        return of_event(each)

    return places


def continuing(asked):
    """Return an `EventTexts` (a reader of the texts in events) that has read two events. Only their texts differ.

    `asked` then has the events for which the plugin function `places` was called.
    """
    texts = texts_after(Event("chunk", b'{"id":"i","text":"a","n":1}'), counting(asked))
    assert texts.next(Event("chunk", b'{"id":"i","text":"b","n":1}')) == "b"
    return texts


@pytest.mark.parametrize("text", ["c", '"', '","n":1}', '{"id":"i","text":"c","n":1}', "\\", "\n\u00e9\u20ac", '\\"'])
def test_a_text_between_the_same_bytes_is_read_without_asking_the_plugin(text):
    asked = []
    texts = continuing(asked)
    written = json.dumps(text)
    assert texts.next(Event("chunk", b'{"id":"i","text":%b,"n":1}' % written.encode())) == text
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("kind", "payload", "found"),
    [
        ("other", b'{"id":"i","text":"c","n":1}', "c"),
        ("chunk", b'{"id":"i","text":"c","n":2}', "c"),
        ("chunk", b'{"id":"j","text":"c","n":1}', "c"),
        ("chunk", b'{"id":"i","text":"","n":1}', ""),
        ("chunk", b'{"id":"i","text":"c","more":"d","n":1}', "c"),
        ("chunk", b'{"id":"i","text":"c","text":"d","n":1}', "d"),
        ("chunk", b'{"id":"i","text":"c" ,"x":" ","n":1}', "c"),
        ("chunk", b'{"id":"i","text":"\\ud83d","n":1}', "\ufffd"),
        ("chunk", b'{"id":"i","text":","n":1}', ()),
        ("chunk", b'{"id":"i","text":"c\n","n":1}', ()),
    ],
)
def test_for_an_event_with_other_bytes_the_plugin_is_asked(kind, payload, found):
    asked = []
    assert continuing(asked).next(Event(kind, payload)) == found
    assert len(asked) == 3


def test_bytes_that_always_differ_are_compared_for_a_few_events_only(monkeypatch):
    compared = []
    monkeypatch.setattr(event_texts, "text_span", lambda payload, text: compared.append(text))
    texts = texts_after(chunk(text="a"))
    assert [texts.next(chunk(text=str(number), number=number)) for number in range(40)] == [*map(str, range(40))]
    assert len(compared) < 10


@given(st.lists(st.tuples(st.sampled_from([b'{"text":%b}', b'{"id":"\\n","text":%b}']), st.text()), max_size=8))
def test_each_text_is_the_one_that_decoding_gives(pieces):
    texts = texts_after(chunk(text="a"))
    for around, text in pieces:
        assert texts.next(Event("chunk", around % orjson.dumps(text))) == text
