"""Tests of reading lines of the journal. A text or a list that is too long is shortened."""

import pytest

from gateway.store.entries import MAX_LIST, MAX_TEXT, Entry, decode, encode
from tests.helpers.records import record


def read(**fields):
    """Write a record with these fields as a line of the journal. Return the record that is read from this line."""
    entries, unreadable = decode([encode(Entry(call=record(**fields)))])
    assert not unreadable
    return entries[0].call


@pytest.mark.parametrize(
    "text",
    ["a" * MAX_TEXT, f'{"a" * 600}"{"b" * 423}', "é" * MAX_TEXT],
    ids=["ASCII", "with a quote", "not ASCII"],
)
def test_a_text_of_the_maximum_length_is_kept(text):
    assert read(error_native=text).error_native == text


@pytest.mark.parametrize(
    "text",
    ["a" * (MAX_TEXT + 1), f'{"a" * 600}"{"b" * 600}', "é" * (MAX_TEXT + 1)],
    ids=["ASCII", "with a quote", "not ASCII"],
)
def test_a_longer_text_is_cut(text):
    assert read(error_native=text).error_native == f"{text[: MAX_TEXT - 1]}…"


def test_a_list_has_at_most_the_maximum_number_of_items():
    tools = tuple(f"tool_{number}" for number in range(MAX_LIST + 1))
    assert read(tools=tools[:MAX_LIST]).tools == tools[:MAX_LIST]
    assert read(tools=tools).tools == tools[:MAX_LIST]
