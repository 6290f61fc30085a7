"""Tests of finding the keys at which two configurations differ. A key is given by its path, such as
`providers.a.models`.
"""

import pytest

from gateway.config.changes import MAX_CHANGES, changed_paths, rotated_keys
from gateway.config.load import loads


@pytest.mark.parametrize(
    ("before", "after", "paths"),
    [
        ({}, {}, []),
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a"]),
        ({"a": 1}, {"a": True}, ["a"]),
        ({"a": 1}, {"a": 1.0}, ["a"]),
        ({"a": {"b": 1}}, {"a": {"b": 2, "c": {"d": 3}}}, ["a.b", "a.c"]),
        ({"a": {"b": {"c": 1}}}, {}, ["a"]),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}, 4]}, ["a[1].b", "a[2]"]),
        ({"a": [1, 2]}, {"a": [1]}, ["a[1]"]),
        ({"a": []}, {"a": {}}, ["a"]),
        ({"a": None}, {}, ["a"]),
        ({"a/b": 1}, {"a/b": 2}, ['"a/b"']),
        ([], {}, [""]),
    ],
)
def test_what_was_added_removed_or_changed_is_named_by_its_path(before, after, paths):
    assert changed_paths(before, after) == paths


def test_a_hundred_changes_are_named_and_no_more():
    assert len(changed_paths({}, {str(number): number for number in range(MAX_CHANGES + 50)})) == MAX_CHANGES


def test_a_key_that_has_another_value_under_the_same_name_is_a_change():
    text = '{"providers": {"a": {"baseurl": "http://h", "apikey": "env:K"}, "b": {"baseurl": "http://h"}}}'
    before, after = (loads(text, environ={"K": value}).config for value in ("one", "two"))
    assert rotated_keys(before, after) == ["providers.a.apikey"]
    assert rotated_keys(before, before) == []
