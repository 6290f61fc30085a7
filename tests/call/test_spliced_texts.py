"""Tests of replacing a text directly in the bytes of an event. The result must be the same as if the event were
decoded, changed and encoded again.
"""

import json
from copy import deepcopy

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call.text_work import spliced
from gateway.contract.places import put_text, value_at

TEXTS = st.one_of(st.sampled_from(['"', ":", ",", "\\", '","', '":"', "é", "\n", ""]), st.text(max_size=4))
VALUES = st.recursive(
    TEXTS | st.integers(0, 3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
WRITTEN = st.tuples(st.booleans(), st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")]))


def paths(value, path=()):
    """Yield the path of each string in a JSON value, as a tuple of keys and indexes."""
    if isinstance(value, str):
        yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in pairs:
        yield from paths(inner, (*path, step))


@given(st.data(), VALUES, TEXTS, WRITTEN)
def test_a_spliced_event_has_the_new_text_at_its_place_and_nowhere_else(data, value, new, written):
    value = {"text": value}
    found = list(paths(value))
    if not found:
        return
    path = data.draw(st.sampled_from(found))
    is_ascii, separators = written
    payload = json.dumps(value, ensure_ascii=is_ascii, separators=separators).encode()
    result = spliced(payload, value_at(value, path), new)
    if result is not None:
        expected = deepcopy(value)
        put_text(expected, path, new)
        assert orjson.loads(result) == expected


@pytest.mark.parametrize(
    ("payload", "old"),
    [
        (b'{"a":":"}', ":"),  # the marks between the name and the text are the same bytes as the text
        (b'["a",","]', ","),
        (b'{"text":"text"}', "text"),
        (b'{"a":"caf\\u00e9","b":"caf\xc3\xa9"}', "café"),  # two forms of one text, of which either may be meant
        (b'{"a":"one","b":"\\n"}', "one"),
        (b'{"a":"two"}', "one"),
    ],
)
def test_a_text_whose_place_in_the_bytes_is_not_certain_is_not_spliced(payload, old):
    assert spliced(payload, old, "new") is None


def test_the_other_bytes_of_a_spliced_event_stay_as_they_are():
    payload = b'{ "id": 18446744073709551617, "text": "sec\\"ret", "cost": 1.0 }'
    assert spliced(payload, 'sec"ret', "ü") == '{ "id": 18446744073709551617, "text": "ü", "cost": 1.0 }'.encode()


def test_half_of_a_character_is_not_spliced():
    assert spliced(b'{"text":"one"}', "one", "\ud83d") is None
