"""Tests of the section `database`: the hosted product's keys, the settings that are read from them, and which faults
are reported.
"""

import json

import pytest

from gateway.config.load import loads
from gateway.config.model import Bodies
from tests.config.test_messages import AT, assert_said, capability, said
from tests.helpers.gateway import CAP

DAY = 86400.0
NINE = [f"x-{number}" for number in range(9)]
SECRETS = [
    "authorization",
    "Proxy-Authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "api-key",
    "x-amz-security-token",
]


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
        ('"database": {»"filterable": "x-team"}', "database.filterable: must be a list, not a string"),
        (
            '"database": {"filterable": [»"x team"]}',
            'database.filterable[0]: "x team" is no name of a header; write one such as "x-team"',
        ),
        (
            f'"database": {{"filterable": [»"x-{"y" * 63}"]}}',
            'database.filterable[0]: "x-yyyyyyyyyyyyyyyyyy"... is longer than 64 characters',
        ),
        (
            '"database": {"filterable": ["x-team", »"X-Api-Key"]}',
            (
                'database.filterable[1]: "x-api-key" is never recorded: its values may be secrets, because its name contains '
                '"key"; name another header, such as "x-team"'
            ),
        ),
        (
            f'"database": {{»"filterable": {json.dumps(NINE)}}}',
            "database.filterable: names 9 headers; at most 8 may be recorded",
        ),
        (
            '"database": {"retention": {"duration": "0"}, »"filterable": ["x-team"]}',
            'warning: database.filterable: no header is recorded while "retention.duration" is "0"',
        ),
        (
            '"database": {»"filterable": ["x-team"]}',
            'warning: database.filterable: no grant names "x-team" in "filterable_headers"; nobody can filter by it',
        ),
    ],
)
def test_what_is_wrong_is_said_at_its_place(section, expected):
    assert_said(section, expected)


def test_headers_are_recorded_by_name_in_lower_case_and_once():
    text = json.dumps({"database": {"filterable": ["X-Team", "x-team", "X-Project"]}})
    assert loads(text).config.filterable_headers == ("x-team", "x-project")
    assert loads("{}").config.filterable_headers == ()
    assert loads(json.dumps({"database": {"filterable": NINE[:8]}})).config.filterable_headers == tuple(NINE[:8])


def test_no_header_is_recorded_with_a_retention_of_zero():
    text = json.dumps({"database": {"filterable": ["x-team"], "retention": {"duration": "0"}}})
    assert loads(text).config.filterable_headers == ()


@pytest.mark.parametrize("name", SECRETS)
def test_a_header_of_secrets_is_refused(name):
    findings = said(f'"database": {{"filterable": ["{name}"]}}')
    assert len([line for line in findings if f'"{name.lower()}" is never recorded' in line]) == 1


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ('»"filterable_headers": "x-team"', 'warning: {at}: "x-team" is not in "filterable" of the section "database"'),
        ('"filterable_headers": [»"X-Team"]', 'warning: {at}[0]: "x-team" is not in "filterable" of the section'),
        ('»"filterable_headers": 3', '{at}: must be a list of names of headers, such as ["x-team"], or "*" for all'),
        ('»"filterable_headers": ["a b"]', '{at}: "a b" is no name of a header; write one such as "x-team"'),
    ],
)
def test_a_grant_names_recorded_headers(members, expected):
    assert_said(capability(members), expected.format(at=f"{AT}.filterable_headers"))


@pytest.mark.parametrize("granted", [["X-Team"], "x-team", "*", ["*"]])
def test_a_grant_of_a_recorded_header_is_taken_without_a_word(granted):
    grant = {"src": ["*"], "app": {CAP: [{"role": "admin", "filterable_headers": granted}]}}
    loaded = loads(json.dumps({"database": {"filterable": ["x-team"]}, "grants": [grant]}))
    assert [str(warning) for warning in loaded.warnings if "filterable" in str(warning)] == []
    (capability,) = loaded.config.grants[0].capabilities
    assert capability.filterable_headers in {("x-team",), ("*",)}
