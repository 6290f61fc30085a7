"""Tests of saving an edited configuration in which placeholders stand for the secrets.

A placeholder that is still at the place of its secret becomes the secret again. A placeholder at any other place is an
error.
"""

from pathlib import Path

import pytest

from gateway.config.document.hujson import parse
from gateway.config.document.redact import Known, Redacted, redact
from gateway.config.edit import MISPLACED_MARK, UNKNOWN_MARK, propose
from gateway.contract.registry import KnownPlugins

SHORT = "abc"
TEXT = f'{{"providers": {{"a": {{"apikey": "{SHORT}", "name": "x"}}}}}} // "apikey": "{SHORT}"'
SHOWN = redact(parse(TEXT), b"key")
(MARK,) = SHOWN.known


def proposed(text):
    return propose(text, Path("config.hujson"), SHOWN.known, active=(), plugins=KnownPlugins(()))


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
    """Check that the placeholder of a short secret cannot be moved to a place where the editor would show the secret.

    The editor hides a short secret only as the value of a field that usually has a secret, such as `apikey`. It hides
    long secrets everywhere.
    """
    assert old in SHOWN.text
    proposal = proposed(SHOWN.text.replace(old, new))
    assert {error.message for error in proposal.errors} == {MISPLACED_MARK}
    assert SHORT not in str(proposal.errors)


def test_a_mark_that_nobody_gave_out_is_told_with_its_place():
    proposal = proposed(SHOWN.text.replace(MARK, MARK[:-8] + "00000000", 1))
    assert [(error.message, error.line) for error in proposal.errors] == [(UNKNOWN_MARK, 1)]
    assert proposal.errors[0].column == SHOWN.text.index(MARK) + 1


def test_a_key_may_move_to_another_place_of_a_key():
    text = SHOWN.text.replace('"name": "x"', f'"options": {{"client_secret": "{MARK}"}}')
    assert f'"client_secret": "{SHORT}"' in proposed(text).text


LONG = "corp-gateway-key-1"


def shown_of(text, *active):
    return redact(parse(text), b"key", active)


def judged(redaction, text, *active):
    proposal = propose(text, Path("config.hujson"), redaction.known, active=active, plugins=KnownPlugins(()))
    return proposal.text, {error.message for error in proposal.errors if MISPLACED_MARK in error.message}


def test_a_key_that_is_rotated_does_not_come_back_in_a_comment():
    """Check that if a key is replaced in the editor, a comment with the old key does not show this key.

    The comment is saved with the old key's placeholder. The editor could not hide the old key itself, because it hides
    only keys that are in use.
    """
    redaction = shown_of(f'{{"apikey": "{LONG}"}} // {LONG} since May', LONG)
    (mark,) = redaction.known
    saved, faults = judged(redaction, redaction.text.replace(mark, "a-new-key", 1), LONG)
    assert (saved, faults) == (f'{{"apikey": "a-new-key"}} // {mark} since May', set())


def test_a_rotated_key_that_a_comments_words_tell_of_comes_back_there():
    text = f'{{"apikey": "{LONG}"}} // "apikey": "{LONG}"'
    redaction = shown_of(text, LONG)
    (mark,) = redaction.known
    saved, faults = judged(redaction, redaction.text.replace(mark, "a-new-key", 1), LONG)
    assert (saved, faults) == (text.replace(LONG, "a-new-key", 1), set())
    assert LONG not in shown_of(saved).text


def test_a_short_key_that_no_words_tell_of_stays_a_mark_in_its_comment():
    text = SHOWN.text.replace(f'// "apikey": "{MARK}"', f"// {MARK}")
    assert proposed(text).text == text.replace(MARK, SHORT, 1)


def test_a_mark_that_a_comment_keeps_stays_there_at_the_next_save():
    redaction = shown_of(f'{{"apikey": "{LONG}"}} // {LONG}', LONG)
    (mark,) = redaction.known
    saved_text, _ = judged(redaction, redaction.text.replace(mark, "a-new-key", 1), LONG)
    assert saved_text == f'{{"apikey": "a-new-key"}} // {mark}'
    again = shown_of(saved_text, "a-new-key")
    assert judged(again, again.text, "a-new-key") == (saved_text, set())


def test_a_key_from_outside_stays_a_mark_where_nothing_tells_of_it():
    text = f'{{"apikey": "env:KEY"}} // {LONG} since May'
    redaction = shown_of(text, LONG)
    assert judged(redaction, redaction.text, LONG) == (redaction.text, set())


def test_a_rotated_key_does_not_come_back_in_a_value_or_a_name():
    for text in (f'{{"apikey": "{LONG}", "name": "it is {LONG}"}}', f'{{"apikey": "{LONG}", "{LONG}": 1}}'):
        redaction = shown_of(text, LONG)
        (mark,) = redaction.known
        assert judged(redaction, redaction.text, LONG) == (text, set())
        rotated = redaction.text.replace(f'"apikey": "{mark}"', '"apikey": "a-new-key"')
        assert judged(redaction, rotated, LONG)[1] == {MISPLACED_MARK}


def test_a_mark_whose_comment_lost_the_words_that_told_of_it_is_refused():
    first, second = (f"redacted:{digit * 32}" for digit in "12")
    redaction = Redacted("", {first: Known("my token:"), second: Known(LONG)})
    assert judged(redaction, f'{{"a": 1}} // token: {second}') == (f'{{"a": 1}} // token: {LONG}', set())
    assert judged(redaction, f'{{"a": 1}} // {first} {second}')[1] == {MISPLACED_MARK}


URL = (
    f'{{"hooks": {{"a": {{"url": "https://x:{LONG}@h.example/"}}}}, "providers": {{"p": {{"apikey": "k1234567890"}}}}}}'
)


def test_a_mark_in_a_url_stays_where_it_was():
    redaction = shown_of(URL)
    assert LONG not in redaction.text
    assert judged(redaction, redaction.text) == (URL, set())
    assert judged(redaction, redaction.text.replace('"a"', '"renamed"')) == (URL.replace('"a"', '"renamed"'), set())


@pytest.mark.parametrize("member", ["description", "name", "models", "baseurl"])
def test_no_mark_is_put_into_a_url_that_others_may_see(member):
    redaction = shown_of(URL)
    for mark in redaction.known:
        for value in (f'"https://x:{mark}@h"', f'["https://x:{mark}@h"]', f'"https://{mark}@h"', f'"?token={mark}"'):
            text = redaction.text.replace('"apikey"', f'"{member}": {value}, "apikey"')
            assert judged(redaction, text)[1] == {MISPLACED_MARK}


@pytest.mark.parametrize(
    "member", ['"base_models": {"token": "%s"}', '"base_models": {"api_key": "%s"}', '"compatibility": {"key": "%s"}']
)
def test_a_name_that_people_chose_makes_no_place_of_a_key(member):
    redaction = shown_of(URL)
    for mark in redaction.known:
        text = redaction.text.replace('"apikey"', f'{member.replace("%s", mark)}, "apikey"')
        assert judged(redaction, text)[1] == {MISPLACED_MARK}


def test_a_key_does_not_move_to_a_string_that_more_people_see():
    """Check that a key's placeholder cannot be moved to a string that is visible to more people than the key's present
    place.
    """
    redaction = shown_of(f'{{"providers": {{"p": {{"apikey": "{LONG}", "options": {{"note": "{LONG}"}}}}}}}}')
    assert judged(redaction, redaction.text)[1] == set()
    assert judged(redaction, redaction.text.replace('"options": {"note": ', '"description": ').replace("}}}}", "}}}"))[
        1
    ] == {MISPLACED_MARK}


def test_what_is_said_of_a_text_quotes_no_key_that_became_one_again():
    text = f'{{"providers": {{"a": {{"apikey": "{LONG}", "{LONG}": 1}}}}}}'
    redaction = shown_of(text)
    proposal = propose(redaction.text, Path("config.hujson"), redaction.known, active=(), plugins=KnownPlugins(()))
    assert LONG in proposal.text
    assert [error.path for error in proposal.errors if "unknown key" in error.message] == ["providers.a.[redacted]"]


def test_a_text_that_is_none_is_told_of_once():
    (error,) = proposed("{ // ").errors
    assert (error.line, error.severity) == (1, "error")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"providers": {},\n "grants": []}', (2, 2)),
        ('{"providers": {},\n "server": {}}', (1, 1)),
    ],
)
def test_a_judgement_stands_where_its_key_is_or_at_the_beginning(text, place):
    proposal = propose(text, Path("c"), {}, active=(), plugins=KnownPlugins(()), judge=lambda _: {"grants": "shut out"})
    (error,) = [finding for finding in proposal.errors if finding.severity == "error"]
    assert (error.message, error.line, error.column) == ("shut out", *place)
