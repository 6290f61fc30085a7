"""Tests of a stream that is one JSON array. Its objects are found for every division into chunks, no byte changes, and
malformed arrays are refused.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.array_api import ArrayEncoder
from gateway.contract.errors import OVERLOADED, BadFrame, Problem
from gateway.contract.flag import Event
from gateway.contract.framing import json_array
from gateway.testkit.laws.chunks import chunkings

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text(), JSON, max_size=4), max_size=4)
GOOGLE = b'[{\n  "a": "x"\n}\n,\r\n{"a": "]}\\"\\\\", "b": [[1], {"c": {}}]}\n]\n'


def frames(*chunks):
    decoder = json_array.Decoder()
    return decoder, [frame for chunk in chunks for frame in decoder.feed(chunk)]


def payloads(*chunks):
    return [json.loads(frame.payload) for frame in frames(*chunks)[1] if frame.payload]


def test_every_object_is_a_frame_and_every_byte_belongs_to_one():
    for chunks in chunkings(GOOGLE):
        decoder, found = frames(*chunks)
        assert [json.loads(frame.payload) for frame in found if frame.payload] == [
            {"a": "x"},
            {"a": ']}"\\', "b": [[1], {"c": {}}]},
        ]
        assert b"".join(frame.raw for frame in found) == GOOGLE
        assert decoder.closed


@given(objects=OBJECTS, indent=st.sampled_from([None, 1]), size=st.integers(1, 20))
def test_any_objects_come_out_of_any_chunks(objects, indent, size):
    body = json.dumps(objects, indent=indent).encode()
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    decoder, found = frames(*chunks)
    assert [json.loads(frame.payload) for frame in found if frame.payload] == objects
    assert b"".join(frame.raw for frame in found) == body
    assert decoder.closed


@pytest.mark.parametrize("cut", range(len(GOOGLE) - 2))
def test_a_cut_array_is_not_closed(cut):
    assert not frames(GOOGLE[:cut])[0].closed


def test_an_object_outside_of_an_array_is_a_frame():
    assert payloads(b'{"error": {"code": 500}}') == [{"error": {"code": 500}}]
    assert payloads(b'{"a": 1}\n{"a": 2}\n') == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    "body", [b"]", b"}", b"[]]", b'"x"}', b'[{"a": 1]', b'[{"a": [1}]', b'[{"a": {]', b"[}", b'{"a": 1]']
)
def test_brackets_that_match_nothing_are_refused(body):
    with pytest.raises(BadFrame):
        frames(body)


def test_an_endless_object_is_refused(monkeypatch):
    monkeypatch.setattr(json_array, "MAX_ITEM", 1000)
    decoder = json_array.Decoder()
    with pytest.raises(BadFrame):
        list(decoder.feed(b'[{"a": "' + b"x" * 1000))


def test_an_object_of_too_many_brackets_is_refused(monkeypatch):
    monkeypatch.setattr(json_array, "MAX_MARKS", 100)
    decoder = json_array.Decoder()
    with pytest.raises(BadFrame):
        list(decoder.feed(b"[" * 200))
    assert len(payloads(b"[" + b",".join([b'{"a": 1}'] * 200) + b"]")) == 200


@pytest.mark.parametrize("before", [0, 1, 3])
def test_an_encoded_array_is_json_however_it_ends(before):
    events = [Event("x", b'{"n": %d}' % number) for number in range(before)]
    complete, failed = ArrayEncoder(), ArrayEncoder()
    whole = complete.ping() + b"".join(complete.feed(event) + complete.ping() for event in events) + complete.close()
    assert json.loads(whole) == [{"n": number} for number in range(before)]
    cut = b"".join(map(failed.feed, events)) + failed.fail(Problem(OVERLOADED, "busy"))
    assert json.loads(cut)[-1]["error"]["message"] == "busy"
    assert len(json.loads(cut)) == before + 1
