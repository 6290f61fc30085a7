"""Replaces secrets in prompts and tool results before a provider gets them, and in replies before the client gets them.

- Each built-in kind of secret is a key with a published form, usually a prefix such as `ghp_`. Sources: GitHub's list
  of patterns for secret scanning, AWS's IAM reference (unique identifiers), RFC 7468 (PEM), RFC 7519 (JWT), Tailscale's
  page on keys.
- In a stream, letters and digits at the end of the text are held back, because they may be the beginning of a key. Once
  a blank follows them, they are usually passed on. So a configured pattern that matches blanks may miss a secret in a
  stream.
- A changed prompt misses the provider's prompt cache. The same secret is always replaced by the same text, so later
  turns hit the cache again.
- Thinking is not changed, because the provider has signed it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from pydantic import Field, field_validator

from gateway.contract import filter as filters
from gateway.contract.filter import Asked, CallView, Hold
from gateway.contract.places import Kind
from gateway.contract.samples import FilterSample

api = 1
blocks = True


class Form(NamedTuple):
    """Search strings and a pattern that find one kind of secret."""

    marks: tuple[str, ...]
    """Strings of which every secret of this kind contains at least one, for a quick search before the slower pattern.
    """
    pattern: str
    """Regular expression for a secret of this kind. The length of a match is limited, so that a stream is not held
    back without limit."""


KINDS: Final = {
    "anthropic": Form(("sk-ant-",), r"(?<![\w-])sk-ant-[\w-]{20,200}"),
    "openai": Form(("sk-",), r"(?<![\w-])sk-(?=[\w-]{0,60}\d)[\w-]{20,200}"),
    "aws_access_key": Form(("AKIA", "ASIA"), r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    "aws_secret_key": Form(
        ("ecret", "ECRET"),
        r"(?i:aws_?secret_?(?:access_?)?key)[\"'\\ :=]{1,8}[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])",
    ),
    "bedrock": Form(("ABSK",), r"\bABSK[A-Za-z0-9+/=]{40,400}"),
    "github": Form(
        ("ghp_", "gho_", "ghr_", "ghs_", "ghu_", "github_pat_"),
        r"\b(?:gh[oprsu]_[A-Za-z0-9]{36,255}|github_pat_\w{22,255})",
    ),
    "gitlab": Form(
        ("glpat-", "glptt-", "gldt-", "glrt-", "glcbt-", "gloas-", "glsoat-"),
        r"\bgl(?:pat|ptt|dt|rt|cbt|oas|soat)-[\w.-]{20,300}",
    ),
    "google": Form(("AIza",), r"\bAIza[\w-]{35}(?![\w-])"),
    "slack": Form(("xox",), r"\bxox[abeoprs]-[A-Za-z0-9-]{10,250}"),
    "stripe": Form(("k_live_", "k_test_"), r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,250}"),
    "tailscale": Form(("tskey-",), r"\btskey-[a-z]{3,16}-[A-Za-z0-9-]{10,100}"),
    "huggingface": Form(("hf_",), r"\bhf_[A-Za-z0-9]{30,100}"),
    "npm": Form(("npm_",), r"\bnpm_[A-Za-z0-9]{36}\b"),
    "jwt": Form((".eyJ",), r"(?<![\w-])eyJ[\w-]{10,2000}\.eyJ[\w-]{10,6000}\.[\w-]{10,2000}"),
    "private_key": Form(
        ("PRIVATE KEY-----",),
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----(?:(?!-----)[\s\S]){1,8000}-----END [A-Z0-9 ]{0,50}-----",
    ),
}

_LONGEST: Final = 10_000
"""Maximum number of characters that are held back until a secret ends."""
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./+=-"
"""Characters of which secrets consist. In a stream, such characters at the end of a text are held back, because they
may be the beginning of a secret."""
_BEGIN: Final = "-----BEGIN "
_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}-----")
_NAMED: Final = re.compile(r"(?i:aws_?secret_?(?:access_?)?key)[\"'\\ :=]{1,8}[A-Za-z0-9/+]{0,40}\Z")
"""Pattern for the name of an AWS secret key, followed by a beginning of the key, at the end of a text: `aws_secret_key
= wJal`.

The key alone has no form that can be recognized, so the name before the key is searched for."""
_NAMED_LENGTH: Final = 80


class Settings(filters.Settings):
    replacement: str = Field("[secret removed]", description="The text in place of a secret.")
    prompts: bool = Field(True, description="Whether prompts and results of tools are cleaned.")
    replies: bool = Field(True, description="Whether replies are cleaned.")
    leave: list[str] = Field([], description=f"Kinds of secrets to leave, of {', '.join(KINDS)}.")
    patterns: dict[str, str] = Field(
        {}, description='Regular expressions of your own, by name: {"acme": "acme_[0-9]+"}.'
    )

    @field_validator("leave")
    @classmethod
    def _known(cls, kinds: list[str]) -> list[str]:
        if wrong := [kind for kind in kinds if kind not in KINDS]:
            raise ValueError(f'there is no kind "{wrong[0]}"; there are {", ".join(KINDS)}')
        return kinds

    @field_validator("patterns")
    @classmethod
    def _compiled(cls, patterns: dict[str, str]) -> dict[str, str]:
        for name, pattern in patterns.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f'"{name}" is no regular expression: {error}') from None
        return patterns


@lru_cache(64)
def _search(left: tuple[str, ...], own: tuple[str, ...]) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """Return one pattern for all secrets to replace, and strings of which a text with a secret contains at least one.

    If the operator has own patterns (`own`), no strings are returned, because a text that matches such a pattern need
    not contain a known string. `left` are the built-in kinds of secrets that are not replaced.
    """
    forms = [form for kind, form in KINDS.items() if kind not in left]
    pattern = "|".join(f"(?:{pattern})" for pattern in (*(form.pattern for form in forms), *own)) or r"(?!)"
    return re.compile(pattern, re.ASCII), () if own else tuple(mark for form in forms for mark in form.marks)


def samples() -> list[FilterSample]:
    texts = ("the key AKIAIOSFODNN7EXAMPLE of AWS's documentation",)
    return [FilterSample(Settings.model_validate({}), texts)]


def open(_call: CallView, settings: Settings) -> Scrubber:  # noqa: A001 (the contract's name)
    return Scrubber(settings, *_search(tuple(settings.leave), tuple(settings.patterns.values())))


class Scrubber:
    def __init__(self, settings: Settings, pattern: re.Pattern[str], marks: tuple[str, ...]) -> None:
        self._settings = settings
        self._pattern = pattern
        self._marks = marks

    def request(self, asked: Asked) -> Asked | None:
        if not self._settings.prompts:
            return None
        return asked.with_texts(
            [text.text if text.kind == "thinking" else self._clean(text.text) for text in asked.texts]
        )

    def text(self, kind: Kind, piece: str, last: bool) -> str | Hold:
        if kind == "thinking" or not self._settings.replies:
            return piece
        if last:
            return self._clean(piece)
        end = _complete(piece)
        return Hold(self._clean(piece[:end]), piece[end:])

    def _clean(self, text: str) -> str:
        if self._marks and not any(mark in text for mark in self._marks):
            return text
        return self._pattern.sub(lambda _: self._settings.replacement, text)


def _complete(piece: str) -> int:
    """Return the number of characters of a piece that can be passed on now.

    The other characters may be the beginning of a secret that continues in the next piece.
    """
    end = len(piece.rstrip(_LETTERS))
    if (named := _NAMED.search(piece, max(0, len(piece) - _NAMED_LENGTH))) is not None:
        end = min(end, named.start())
    begin = piece.rfind(_BEGIN)
    if begin >= 0:
        last = _END.search(piece, begin)
        if last is None or last.end() > end:
            end = min(end, begin)
    return max(end, len(piece) - _LONGEST)
