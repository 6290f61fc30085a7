"""Marks made keys again: where they may stand, and what is told of where they may not."""

from pathlib import Path

import pytest

from gateway.config.edit import MISPLACED_MARK, UNKNOWN_MARK, propose
from gateway.config.hujson import parse
from gateway.config.redact import redact

SHORT = "abc"
TEXT = f'{{"providers": {{"a": {{"apikey": "{SHORT}", "name": "x"}}}}}} // "apikey": "{SHORT}"'
SHOWN = redact(parse(TEXT), b"key")
(MARK,) = SHOWN.known


def proposed(text):
    return propose(text, Path("config.hujson"), SHOWN.known, active=(), flags=())


def test_a_text_as_it_was_shown_becomes_what_it_was():
    assert SHOWN.text.count(MARK) == 2
    assert proposed(SHOWN.text).text == TEXT


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"name": "x"', f'"name": "{MARK}"'),
        ('"name": "x"', f'"{MARK}": "x"'),
        (f'"apikey": "{MARK}", "name"', f'"apikey": "env:{MARK}", "name"'),
        (f'"apikey": "{MARK}", "name"', f'"authorization": "{MARK}", "name"'),
        (f'// "apikey": "{MARK}"', f"// {MARK}"),
    ],
)
def test_a_short_key_goes_nowhere_where_it_would_be_shown(old, new):
    """It is looked for in no other place, so it may stand only where a name tells of it."""
    assert old in SHOWN.text
    found = proposed(SHOWN.text.replace(old, new))
    assert {error.message for error in found.errors} == {MISPLACED_MARK}
    assert SHORT not in str(found.errors)


def test_a_mark_that_nobody_gave_out_is_told_with_its_place():
    found = proposed(SHOWN.text.replace(MARK, MARK[:-8] + "00000000", 1))
    assert [(error.message, error.line) for error in found.errors] == [(UNKNOWN_MARK, 1)]
    assert found.errors[0].column == SHOWN.text.index(MARK) + 1


def test_a_key_may_move_to_another_place_of_a_key():
    text = SHOWN.text.replace('"name": "x"', f'"options": {{"client_secret": "{MARK}"}}')
    assert f'"client_secret": "{SHORT}"' in proposed(text).text


def test_a_text_that_is_none_is_told_of_once():
    (found,) = proposed("{ // ").errors
    assert (found.line, found.severity) == (1, "error")
