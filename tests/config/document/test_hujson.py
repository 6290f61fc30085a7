"""Tests of HuJSON: what is accepted, what is refused, and the positions of values."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.document.hujson import MAX_DEPTH, Duplicate, HujsonError, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)
GAPS = st.sampled_from(["", " ", "\n", "\r\n\t", "// é, }\n", "/* [ */", "/* a\nb */", "/**/", "//\n"])


@st.composite
def documents(draw: st.DrawFn) -> tuple[Any, str]:
    """Generate a random value, and a HuJSON text of this value with comments, blanks and trailing commas."""
    value = draw(VALUES)

    def gap() -> str:
        return draw(GAPS)

    def render(node: Any) -> str:
        if isinstance(node, dict):
            inner = [f"{gap()}{json.dumps(key)}{gap()}:{render(item)}" for key, item in node.items()]
            return gap() + "{" + _joined(inner) + "}" + gap()
        if isinstance(node, list):
            return gap() + "[" + _joined([render(item) for item in node]) + "]" + gap()
        return gap() + json.dumps(node) + gap()

    def _joined(inner: list[str]) -> str:
        return ",".join(inner) + ("," if inner and draw(st.booleans()) else "") + gap()

    return value, render(value)


@given(VALUES, st.sampled_from([None, 0, 2]), st.booleans())
def test_plain_json_reads_as_json_reads_it(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert parse(text).value == json.loads(text)


@given(documents())
def test_comments_blanks_and_trailing_commas_change_no_value(pair: tuple[Any, str]) -> None:
    value, text = pair
    assert parse(text).value == value


@given(documents())
def test_every_offset_points_at_its_key_or_element(pair: tuple[Any, str]) -> None:
    _, text = pair
    document = parse(text)
    for path, offset in document.offsets.items():
        assert text[offset] not in " \t\r\n,/"
        if path and isinstance(path[-1], str):
            assert json.JSONDecoder().raw_decode(text, offset)[0] == path[-1]


@given(st.text(max_size=40) | st.text(alphabet='{}[],:"/*\\ \n1e-.tu', max_size=30))
def test_garbage_is_refused_in_one_way(text: str) -> None:
    with suppress(HujsonError):
        parse(text)


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("[,]", 1, "a comma needs a value before it"),
        ("{,}", 1, "a comma needs a value before it"),
        ("[1,,]", 3, "a comma needs a value before it"),
        ('{"a":,}', 5, "a comma needs a value before it"),
        (",", 0, "a comma needs a value before it"),
        ('{"a": 1 /* x }', 8, "the comment is not closed"),
        ("/*/", 0, "the comment is not closed"),
        ('{"a": "x\n"}', 6, "the string is not closed"),
        ("{'a': 1}", 1, "double quotes"),
        ("{a: 1}", 1, "expected a key in double quotes"),
        ('{"a" 1}', 5, 'expected ":"'),
        ('{"a": 1 "b": 2}', 8, 'expected "," or "}"'),
        ("[1 2]", 3, 'expected "," or "]"'),
        ("[1}", 2, 'expected "," or "]"'),
        ('{"a": 1', 7, "found the end"),
        ("[", 1, "found the end"),
        ("[1] 2", 4, "nothing may follow"),
        ("", 0, "empty"),
        ("  // nothing\n", 0, "empty"),
        ("[01]", 1, "a word without quotes"),
        ("[True]", 1, "a word without quotes"),
        ("[NaN]", 1, "a word without quotes"),
        ("[+1]", 1, "a word without quotes"),
        ("[1.]", 1, "a word without quotes"),
        ("[1e999]", 1, "too large"),
        (f"[{'1' * 5000}]", 1, "a word without quotes"),
        ('["\\x"]', 2, "wrong escape"),
        ('["\\ud800"]', 1, "surrogate"),
        ("[\u00a01]", 1, "unexpected character"),
        ("# x\n[]", 0, "unexpected character"),
        ("[" * 5000, MAX_DEPTH + 1, "nested deeper"),
    ],
)
def test_what_is_no_hujson_is_refused_where_it_stops_being_it(text: str, offset: int, message: str) -> None:
    with pytest.raises(HujsonError, match=message) as caught:
        parse(text)
    assert caught.value.offset == offset


def test_a_refusal_never_quotes_the_text() -> None:
    for text in ('{"apikey": sk-secret}', '{"apikey": "sk-secret}', '{"apikey": "sk-secret" "x"}'):
        with pytest.raises(HujsonError) as caught:
            parse(text)
        assert "secret" not in str(caught.value)


def test_a_comment_sign_inside_a_string_is_text() -> None:
    assert parse('{"a": "http://x/*y*/", /* "b": 1, */ }').value == {"a": "http://x/*y*/"}


def test_a_key_that_stands_twice_is_told_with_both_places() -> None:
    document = parse('{"a": {"b": 1,\n "b": 2}, "a2": [{"c": 1, "c": 1}]}')
    assert [(twice.path, twice.first, twice.second) for twice in document.duplicates] == [
        (("a", "b"), 7, 16),
        (("a2", 0, "c"), 33, 41),
    ]
    assert document.value["a"] == {"b": 2}
    assert parse('{"a": 1, "\\u0061": 1}').duplicates == (Duplicate(("a",), 1, 9),)


def test_lines_and_columns_start_at_one_and_count_characters() -> None:
    document = parse('{\n  "é": "ü", "b": [\n    1,\n    2, // x\n  ],\n}')
    assert document.locate(()) == (1, 1)
    assert document.locate(("é",)) == (2, 3)
    assert document.locate(("b",)) == (2, 13)
    assert document.locate(("b", 1)) == (4, 5)


def test_a_missing_member_stands_where_its_object_stands() -> None:
    document = parse('{"a":\n {"b": 1}}')
    assert document.locate(("a", "missing", 3, "deeper")) == (1, 2)


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("// a\r{}", 4, "ends in a carriage return"),
        ("{} // a\rb\n", 7, "ends in a carriage return"),
        ("{} // a\x00b", 7, "unexpected character"),
        ("{} /* a\x00b */", 3, "holds a zero byte"),
    ],
)
def test_a_comment_hides_neither_a_line_nor_a_zero_byte(text: str, offset: int, message: str) -> None:
    with pytest.raises(HujsonError, match=message) as caught:
        parse(text)
    assert caught.value.offset == offset


def test_comments_may_end_in_both_signs_of_a_line_and_with_the_text() -> None:
    assert parse("// a\r\n[1, // b\r\n/* c\rd */ 2] // e\r").value == [1, 2]
