"""Tests of the differences between two configurations: changed lines, changed values, and how many of them are listed
at most.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.differences import (
    CONTEXT,
    MAX_COMPARED,
    MAX_LINES,
    MAX_VALUE,
    MAX_VALUES,
    Change,
    changed_lines,
    changed_values,
)

LINES = st.lists(st.sampled_from("abcd"), max_size=30).map(lambda lines: "".join(f"{line}\n" for line in lines))


@given(before=LINES, after=LINES)
def test_the_lines_lead_from_one_text_to_the_other(before, after):
    """Check that each changed line has the right number and text. What is left of the two texts without their changed
    lines must be equal.
    """
    lines = changed_lines(before, after)
    assert (lines == []) == (before == after)
    for numbers, text, kind in (
        ([(line.before, line.text) for line in lines if line.before], before.splitlines(), "removed"),
        ([(line.after, line.text) for line in lines if line.after], after.splitlines(), "added"),
    ):
        assert all(text[number - 1] == shown for number, shown in numbers), kind
        assert [number for number, _ in numbers] == sorted({number for number, _ in numbers})
    left_out = {line.before for line in lines}
    kept = [line for number, line in enumerate(before.splitlines(), 1) if number not in left_out]
    shown_after = {line.after for line in lines}
    assert kept == [line for number, line in enumerate(after.splitlines(), 1) if number not in shown_after]


def test_unchanged_lines_are_shown_near_changes_alone():
    before = [str(number) for number in range(100)]
    after = [*before[:50], "new", *before[50:]]
    lines = changed_lines("\n".join(before), "\n".join(after))
    assert [line.kind for line in lines] == ["gap", *["same"] * CONTEXT, "added", *["same"] * CONTEXT, "gap"]
    assert [line.after for line in lines if line.kind != "gap"] == [*range(48, 55)]


def test_large_differences_are_cut():
    before = "\n".join(map(str, range(MAX_COMPARED + 100)))
    lines = changed_lines(before, before.replace("\n", "!\n"))
    assert len(lines) == MAX_LINES + 1
    assert lines[-1].kind == "gap"


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({"a": 1}, {"a": 2}, [("a", "1", "2")]),
        ({"a": 1}, {"a": True}, [("a", "1", "true")]),
        ({"a": [1]}, {"a": [True]}, [("a[0]", "1", "true")]),
        ({}, {"a": {"b": []}}, [("a", "", '{"b": []}')]),
        ({"a": ""}, {}, [("a", '""', "")]),
        ({"a": [1, 2, 3]}, {"a": [0, 1, 2, 3]}, [("a[0]", "", "0")]),
        ({"a": [1, 2, 3]}, {"a": [1, 3]}, [("a[1]", "2", "")]),
        ({"a": [{"b": 1}, 2]}, {"a": [{"b": 3}, 2]}, [("a[0].b", "1", "3")]),
        ({"a": [1, 1]}, {"a": [1]}, [("a[1]", "1", "")]),
        ({"x y": "é"}, {"x y": "è"}, [('"x y"', '"é"', '"è"')]),
        ({"a": {"b": 1}}, {"a": {"b": 1}}, []),
    ],
)
def test_values_are_named_with_what_they_were_and_are(before, after, changes):
    assert changed_values(before, after) == [Change(*change) for change in changes]


def test_long_values_and_many_are_cut_and_marks_are_short():
    mark = "redacted:" + "0123456789abcdef" * 2
    (change,) = changed_values({"a": mark}, {"a": "x" * 500})
    assert change.before == '"redacted:01234567…"'
    assert len(change.after) == MAX_VALUE
    many = {str(number): number for number in range(500)}
    assert len(changed_values({}, json.loads(json.dumps(many)))) == MAX_VALUES
