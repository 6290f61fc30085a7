"""Tests that forbidden words block a call or are replaced with stars, wherever a text is cut into pieces."""

import pytest

from gateway.contract.errors import Refused
from gateway_plugins.filters import blocked_words
from gateway_plugins.filters.blocked_words import Settings
from tests.helpers.filters import in_pieces

TEXT = "The car and project  falcon, a carpet and FALCONRY. Project Falcon! car"


def words(*names, **settings):
    return blocked_words.open(None, Settings(words=list(names), **settings))


@pytest.mark.parametrize("size", [1, 2, 3, 6, 20, 1000])
def test_words_are_starred_out_as_whole_words(size):
    guard = words("car", "project falcon", mode="star")
    assert in_pieces(guard.text, TEXT, size) == "The *** and project  falcon, a carpet and FALCONRY. ***! ***"


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_words_inside_of_others_count_if_that_is_asked_for(size):
    guard = words("car", mode="star", whole_words=False)
    assert in_pieces(guard.text, TEXT, size).count("***") == 3


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_blocked_word_ends_the_call(size):
    with pytest.raises(Refused) as refused:
        in_pieces(words("project falcon", message="no").text, TEXT, size)
    assert (refused.value.problem.message, refused.value.problem.reason) == ("no", "blocked_word")


def test_letters_of_another_width_do_not_pass():
    with pytest.raises(Refused):
        words("falcon").text("text", "a ＦＡＬＣＯＮ", last=True)


def test_a_direction_can_be_left():
    assert words("car", replies=False).text("text", "car", last=True) == "car"
    assert words("car", prompts=False).request(None) is None


def test_a_long_text_without_blanks_does_not_wait_for_ever():
    shown, held = words("car").text("text", "a" * 10_000, last=False)
    assert shown + held == "a" * 10_000
    assert len(held) < 10


@pytest.mark.parametrize("size", range(1, 60))
@pytest.mark.parametrize("phrase", ["project falcon", "ＰＲＯＪＥＣＴ ＦＡＬＣＯＮ"])
def test_a_phrase_is_found_wherever_the_text_is_divided(phrase, size):
    """Check that a phrase is found for any size of the pieces, even if a piece ends at a blank inside the phrase."""
    text = f"{phrase} in front, and then {phrase}, and at the end {phrase}"
    with pytest.raises(Refused):
        in_pieces(words("project falcon").text, text, size)
    if phrase.isascii():
        starred = in_pieces(words("project falcon", mode="star").text, text, size)
        assert starred == "*** in front, and then ***, and at the end ***"
