"""Refuses requests and replies with words or phrases that are not allowed, or replaces the words with stars.

Upper and lower case are not distinguished. A word also matches inside a longer word if `whole_words` is false. In the
mode `block`, a text is also compared in Unicode's compatible form (NFKC), so that fullwidth letters do not pass.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Final, Literal

from pydantic import Field

from gateway.contract import filter as filters
from gateway.contract.filter import Asked, CallView, Hold, blocked
from gateway.contract.places import Kind

api = 1
blocks = True

_CODE: Final = "blocked_word"
_LONGEST_WORD: Final = 4096
"""Maximum number of characters that are held back to wait for the blank at the end of a word."""


class Settings(filters.Settings):
    words: Annotated[list[str], Field(min_length=1, description='Words or phrases: ["project falcon"].')]
    mode: Literal["block", "star"] = Field("block", description='Whether a call is blocked, or the words become "***".')
    prompts: bool = Field(True, description="Whether prompts are looked at.")
    replies: bool = Field(True, description="Whether replies are looked at.")
    whole_words: bool = Field(True, description='Whether "car" is left alone in "carpet".')
    message: str = Field(
        "a word in this text is not allowed here", description="What the client of a blocked call gets."
    )


def open(_call: CallView, settings: Settings) -> Words:  # noqa: A001 (the contract's name)
    return Words(settings)


def samples() -> list[Settings]:
    words = ["project falcon", "secret"]
    return [Settings.model_validate({"words": words, "mode": mode}) for mode in ("block", "star")]


class Words:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        edges = (r"(?<!\w)", r"(?!\w)") if settings.whole_words else ("", "")
        words = "|".join(re.escape(word) for word in sorted(settings.words, key=len, reverse=True))
        self._pattern = re.compile(f"{edges[0]}(?:{words}){edges[1]}", re.IGNORECASE)
        self._longest = max(map(len, settings.words))

    def request(self, asked: Asked) -> Asked | None:
        if not self._settings.prompts:
            return None
        return asked.with_texts([self._checked(text.text, len(text.text)) for text in asked.texts])

    def text(self, _kind: Kind, piece: str, last: bool) -> str | Hold:
        if not self._settings.replies:
            return piece
        end = len(piece) if last else self._end(piece)
        checked = self._checked(piece, end)
        return checked if end == len(piece) else Hold(checked, piece[end:])

    def _end(self, piece: str) -> int:
        """Return the index at which a piece of text is cut: only the characters before the index are passed on now.

        The other characters may be the beginning of a phrase, so they are held back until the next piece comes. The
        index is usually just after a blank.
        """
        kept = len(piece) - self._longest - 1
        blank = max(piece.rfind(" ", 0, max(0, kept)), piece.rfind("\n", 0, max(0, kept)))
        end = blank + 1
        if blank < 0 and len(piece) > _LONGEST_WORD:
            end = max(0, kept)
        # a phrase may have this blank in it
        return max([end, *(match.end() for match in self._pattern.finditer(piece) if match.start() < end)])

    def _checked(self, text: str, end: int) -> str:
        """Return the text before the index `end`. In `star` mode, "***" replaces each forbidden word.

        Raises `Refused` in `block` mode if a forbidden word begins before `end`.
        """
        if self._settings.mode == "star":
            return self._pattern.sub("***", text[:end])
        folded = unicodedata.normalize("NFKC", text)
        for form, its_end in ((text, end), (folded, len(unicodedata.normalize("NFKC", text[:end])))):
            if any(match.start() < its_end for match in self._pattern.finditer(form)):
                raise blocked(_CODE, self._settings.message)
        return text[:end]
