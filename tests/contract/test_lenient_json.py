"""Tests of reading JSON with halves of surrogate pairs: every readable value is read, and every byte of a body keeps
its offset.
"""

import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract import lenient_json
from gateway.contract.errors import Refused
from gateway.contract.members import Members
from tests.helpers.cpu_time import cpu_units

characters = st.characters(codec=None, exclude_characters="\0") | st.sampled_from('\ud83d\ude00\ud800\udfff\\"u')
texts = st.text(characters, max_size=12)
values = st.recursive(
    texts | st.integers(0, 9) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def repaired(value):
    """Return a value with U+FFFD in place of each lone half of a surrogate pair."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [repaired(inner) for inner in value]
    if isinstance(value, dict):
        return {repaired(name): repaired(inner) for name, inner in value.items()}
    return value


@settings(max_examples=300)
@given(values)
def test_halves_in_a_value_are_replaced_alone(value):
    text = json.dumps(value)
    assert lenient_json.loads(text.encode()) == repaired(json.loads(text))
    assert lenient_json.loads(text) == repaired(json.loads(text))


@settings(max_examples=300)
@given(st.dictionaries(texts, values, max_size=5), st.sampled_from([(",", ":"), (" ,\n", " :\t")]))
def test_members_of_a_body_with_halves_keep_their_bytes(data, separators):
    text = json.dumps(data, separators=separators)
    data = json.loads(text)
    if len({repaired(name) for name in data}) < len(data):
        with pytest.raises(Refused):
            Members(text.encode())
        return
    members = Members(text.encode())
    assert list(members) == [repaired(name) for name in data]
    for name, value in data.items():
        assert members.decode(repaired(name)) == repaired(value)
        assert json.loads(members[repaired(name)]) == value
    assert json.loads(members.spliced({})) == data


@settings(max_examples=300)
@given(st.lists(values, max_size=5))
def test_items_of_a_list_with_halves_keep_their_bytes(items):
    text = json.dumps(items, separators=(" , ", ":"))
    assert [json.loads(raw) for raw in lenient_json.raw_items(text.encode())] == json.loads(text)


@pytest.mark.parametrize(
    "text", [b"", b"{", b'"\\ud83', b'["\\ud8","x"]', b'{"a": NaN, "b": "\\ud83d"}', b'"\0\\ud83d"']
)
def test_what_is_no_json_stays_an_error(text):
    with pytest.raises(ValueError):
        lenient_json.loads(text)
    with pytest.raises(ValueError):
        lenient_json.raw_items(text)
    with pytest.raises(Refused):
        Members(text)


@pytest.mark.parametrize("name", [r"\ud06dodel", r"\ud800model", r"\udc6dodel"])
def test_no_half_in_a_name_makes_another_known_name(name):
    """Check that a member whose name has half a surrogate pair is not read as `model`, even if the name would be
    `model` without the half.

    A provider might read another name.
    """
    members = Members(b'{"%b": "a", "b": "\\ud83d"}' % name.encode())
    assert "model" not in members


def test_bytes_that_are_no_utf_8_are_replaced_in_replies_only():
    """Check that bytes that are not UTF-8 are replaced in a provider's reply, but refused in a client's request.

    Replacing them in a request would change the client's text without an error.
    """
    assert lenient_json.loads(b'"x\xff\xf0\x9fy"') == "x\ufffd\ufffdy"
    with pytest.raises(Refused):
        Members(b'{"a": "caf\xe9"}').decode("a")


def test_a_large_body_full_of_halves_is_read_in_time():
    body = b'{"a":"%b"}' % (rb"\ud83d" * 500_000)
    assert Members(body).decode("a") == "\ufffd" * 500_000
    assert cpu_units(lambda: Members(body).decode("a"), enough=1300) < 1300


@pytest.mark.parametrize("text", ["18446744073709551616", "-9223372036854775809", "9" * 300, "1e300", "[1.5, 10]"])
def test_a_whole_number_of_any_size_keeps_its_digits(text):
    value = lenient_json.exact(text)
    assert (value, json.loads(lenient_json.dumps({"a": [value]}))) == (json.loads(text), {"a": [json.loads(text)]})


def test_the_encoder_refuses_what_is_nested_too_deeply():
    value = 2**64
    for _ in range(300):
        value = [value]
    with pytest.raises(orjson.JSONEncodeError):
        lenient_json.dumps(value)


def test_a_repaired_text_keeps_its_repaired_value():
    text = rb'["\ud83d", 18446744073709551616]'
    assert lenient_json.exact(text) == lenient_json.loads(text)
