"""Marks made keys again: where they may stand, and what is told of where they may not."""

from pathlib import Path

import pytest

from gateway.config.document.hujson import parse
from gateway.config.document.redact import Known, Redacted, redact
from gateway.config.edit import MISPLACED_MARK, UNKNOWN_MARK, propose

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
    ],
)
def test_a_short_key_goes_nowhere_where_it_would_be_shown(old, new):
    """Reject a short key where only a name hides it, since short secrets are searched nowhere else."""
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


LONG = "corp-gateway-key-1"


def shown_of(text, *active):
    return redact(parse(text), b"key", active)


def judged(shown, text, *active):
    found = propose(text, Path("config.hujson"), shown.known, active=active, flags=())
    return found.text, {error.message for error in found.errors if MISPLACED_MARK in error.message}


def test_a_key_that_is_rotated_does_not_come_back_in_a_comment():
    """Reject a key that is in use while the text is judged, because nothing hides it afterwards."""
    shown = shown_of(f'{{"apikey": "{LONG}"}} // {LONG} since May', LONG)
    (mark,) = shown.known
    saved, faults = judged(shown, shown.text.replace(mark, "a-new-key", 1), LONG)
    assert (saved, faults) == (f'{{"apikey": "a-new-key"}} // {mark} since May', set())


def test_a_rotated_key_that_a_comments_words_tell_of_comes_back_there():
    text = f'{{"apikey": "{LONG}"}} // "apikey": "{LONG}"'
    shown = shown_of(text, LONG)
    (mark,) = shown.known
    saved, faults = judged(shown, shown.text.replace(mark, "a-new-key", 1), LONG)
    assert (saved, faults) == (text.replace(LONG, "a-new-key", 1), set())
    assert LONG not in shown_of(saved).text


def test_a_short_key_that_no_words_tell_of_stays_a_mark_in_its_comment():
    text = SHOWN.text.replace(f'// "apikey": "{MARK}"', f"// {MARK}")
    assert proposed(text).text == text.replace(MARK, SHORT, 1)


def test_a_mark_that_a_comment_keeps_stays_there_at_the_next_save():
    shown = shown_of(f'{{"apikey": "{LONG}"}} // {LONG}', LONG)
    (mark,) = shown.known
    saved_text, _ = judged(shown, shown.text.replace(mark, "a-new-key", 1), LONG)
    assert saved_text == f'{{"apikey": "a-new-key"}} // {mark}'
    again = shown_of(saved_text, "a-new-key")
    assert judged(again, again.text, "a-new-key") == (saved_text, set())


def test_a_key_from_outside_stays_a_mark_where_nothing_tells_of_it():
    text = f'{{"apikey": "env:KEY"}} // {LONG} since May'
    shown = shown_of(text, LONG)
    assert judged(shown, shown.text, LONG) == (shown.text, set())


def test_a_rotated_key_does_not_come_back_in_a_value_or_a_name():
    for text in (f'{{"apikey": "{LONG}", "name": "it is {LONG}"}}', f'{{"apikey": "{LONG}", "{LONG}": 1}}'):
        shown = shown_of(text, LONG)
        (mark,) = shown.known
        assert judged(shown, shown.text, LONG) == (text, set())
        rotated = shown.text.replace(f'"apikey": "{mark}"', '"apikey": "a-new-key"')
        assert judged(shown, rotated, LONG)[1] == {MISPLACED_MARK}


def test_a_mark_whose_comment_lost_the_words_that_told_of_it_is_refused():
    first, second = (f"redacted:{digit * 32}" for digit in "12")
    shown = Redacted("", {first: Known("my token:"), second: Known(LONG)})
    assert judged(shown, f'{{"a": 1}} // token: {second}') == (f'{{"a": 1}} // token: {LONG}', set())
    assert judged(shown, f'{{"a": 1}} // {first} {second}')[1] == {MISPLACED_MARK}


URL = (
    f'{{"hooks": {{"a": {{"url": "https://x:{LONG}@h.example/"}}}}, "providers": {{"p": {{"apikey": "k1234567890"}}}}}}'
)


def test_a_mark_in_a_url_stays_where_it_was():
    shown = shown_of(URL)
    assert LONG not in shown.text
    assert judged(shown, shown.text) == (URL, set())
    assert judged(shown, shown.text.replace('"a"', '"renamed"')) == (URL.replace('"a"', '"renamed"'), set())


@pytest.mark.parametrize("member", ["description", "name", "models", "baseurl"])
def test_no_mark_is_put_into_a_url_that_others_may_see(member):
    shown = shown_of(URL)
    for mark in shown.known:
        for value in (f'"https://x:{mark}@h"', f'["https://x:{mark}@h"]', f'"https://{mark}@h"', f'"?token={mark}"'):
            text = shown.text.replace('"apikey"', f'"{member}": {value}, "apikey"')
            assert judged(shown, text)[1] == {MISPLACED_MARK}


@pytest.mark.parametrize(
    "member", ['"base_models": {"token": "%s"}', '"base_models": {"api_key": "%s"}', '"compatibility": {"key": "%s"}']
)
def test_a_name_that_people_chose_makes_no_place_of_a_key(member):
    shown = shown_of(URL)
    for mark in shown.known:
        text = shown.text.replace('"apikey"', f'{member.replace("%s", mark)}, "apikey"')
        assert judged(shown, text)[1] == {MISPLACED_MARK}


def test_a_key_does_not_move_to_a_string_that_more_people_see():
    """Check that a key in a string that few people see does not move to a string that many people see."""
    shown = shown_of(f'{{"providers": {{"p": {{"apikey": "{LONG}", "options": {{"note": "{LONG}"}}}}}}}}')
    assert judged(shown, shown.text)[1] == set()
    assert judged(shown, shown.text.replace('"options": {"note": ', '"description": ').replace("}}}}", "}}}"))[1] == {
        MISPLACED_MARK
    }


def test_what_is_said_of_a_text_quotes_no_key_that_became_one_again():
    text = f'{{"providers": {{"a": {{"apikey": "{LONG}", "{LONG}": 1}}}}}}'
    shown = shown_of(text)
    found = propose(shown.text, Path("config.hujson"), shown.known, active=(), flags=())
    assert LONG in found.text
    assert [error.path for error in found.errors if "unknown key" in error.message] == ["providers.a.[redacted]"]


def test_a_text_that_is_none_is_told_of_once():
    (found,) = proposed("{ // ").errors
    assert (found.line, found.severity) == (1, "error")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"providers": {},\n "grants": []}', (2, 2)),
        ('{"providers": {},\n "server": {}}', (1, 1)),
    ],
)
def test_a_judgement_stands_where_its_key_is_or_at_the_beginning(text, place):
    proposal = propose(text, Path("c"), {}, active=(), flags=(), judge=lambda _: {"grants": "shut out"})
    (found,) = [finding for finding in proposal.errors if finding.severity == "error"]
    assert (found.message, found.line, found.column) == ("shut out", *place)
