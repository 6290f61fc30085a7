"""Tests of the section `database`: the hosted product's keys, the settings that they become, and their faults."""

import json

import pytest

from gateway.config.load import loads
from gateway.config.model import Bodies
from tests.config.test_messages import assert_said, said

DAY = 86400.0


def bodies(database, storage=None):
    return loads(json.dumps({"database": database, "storage": storage or {}})).config.bodies


def test_bodies_are_not_kept_unless_that_is_asked_for():
    assert loads("{}").config.bodies == Bodies(0, None)
    assert bodies({"retention": {"duration": "30d"}}) == Bodies(0, 30 * DAY)
    assert bodies({"save_raws": False, "max_bytes": 2048}).limit == 0


def test_the_switch_keeps_them_up_to_a_size():
    assert bodies({"save_raws": True}) == Bodies(65536, None)
    assert bodies({"save_raws": True, "max_bytes": 2048}) == Bodies(2048, None)


def test_a_retention_of_zero_keeps_none_whatever_the_switch_says():
    assert bodies({"save_raws": True, "retention": {"duration": "0"}}) == Bodies(0, 0.0)


@pytest.mark.parametrize(
    ("bodies_for", "calls_for", "days"),
    [("30d", "", 30), ("", "7d", 7), ("30d", "7d", 7), ("7d", "30d", 7), ("", "", None)],
)
def test_bodies_never_outlive_their_calls(bodies_for, calls_for, days):
    result = bodies({"save_raws": True, "retention": {"duration": bodies_for}}, {"retention": calls_for})
    assert result.retention == (None if days is None else days * DAY)


@pytest.mark.parametrize("duration", ["", "0", "1h", "30d", "720h", "1.5h", "3650d"])
def test_a_retention_that_the_product_takes_is_taken_without_a_word(duration):
    assert said(f'"database": {{"retention": {{"duration": "{duration}"}}}}') == []


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            '"database": {"retention": {»"duration": "month"}}',
            (
                'database.retention.duration: must be a duration such as "30d" or "720h"; "" keeps for ever, "0" keeps '
                "nothing"
            ),
        ),
        (
            '"database": {"retention": {»"duration": "59m"}}',
            'database.retention.duration: must be between "1h" and "3650d"; "" keeps for ever, "0" keeps nothing',
        ),
        ('"database": {»"save_raws": 1}', "database.save_raws: must be true or false, not a number"),
        ('"database": {»"max_bytes": 1}', "database.max_bytes: must be at least 1024"),
        ('"database": {»"max_bytes": 524289}', "database.max_bytes: must be at most 524288"),
        ('"database": {»"keep": 1}', "warning: database.keep: unknown key; it has no effect"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(section, expected):
    assert_said(section, expected)
