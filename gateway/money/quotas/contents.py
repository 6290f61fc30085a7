"""Estimates for the parts of a request that are not billed by the length of their text: images, files, and tools that
the provider runs.

The plugin of the client's API finds these parts (`gateway.contract.billing`). This module estimates their tokens. A
document is billed as the text in it, so its tokens are estimated from its size. `estimate.py` adds the tokens of the
request's own text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from gateway.contract.billing import AddedTokens, Answers, BilledPart, Fee, File, FileKind, Search
from gateway.contract.result_values import MAX_COUNT

IMAGE_TOKENS: Final = 5_000
"""Tokens assumed for an image. It is also the minimum for most other files. Claude's largest image has 4,784 tokens."""
REMOTE_DOCUMENT_TOKENS: Final = 100_000
"""Tokens assumed for a file of unknown size that is not an image.

The size is unknown if the request gives a URL or an id of a file, or refers to a conversation that the provider has
stored. The number is half of a common context window.
"""
_MOST: Final[Mapping[FileKind, tuple[int, int, int]]] = {
    # a PDF of 17 KB can have 28,000 tokens, and a page needs few bytes; Claude reads up to 600 pages
    "packed": (1, 100_000, 600_000),
    "document": (2, IMAGE_TOKENS, 1_000_000),
    # a second of sound has 32 tokens and of video 290; the most compressed second has 750 and 5,000 bytes
    "audio": (20, IMAGE_TOKENS, 1_000_000),
    "video": (20, IMAGE_TOKENS, 1_000_000),
}
"""Three numbers for each kind of file, from which a high estimate of a file's tokens is computed. Hardly any file has
more tokens than this estimate.

- The first number is the size of a token in units of half a byte. For example, 20 means that a token has 10 bytes.
- The second number is the lowest estimate, and the third number is the highest estimate. Both are in tokens.
"""
_USUAL: Final[Mapping[FileKind, tuple[int, int, int]]] = {
    # a scanned page has 100 KB and 2,500 tokens
    "packed": (80, IMAGE_TOKENS, 600_000),
    "document": (8, IMAGE_TOKENS, 1_000_000),
    "audio": (1_000, IMAGE_TOKENS, 1_000_000),
    "video": (1_000, IMAGE_TOKENS, 1_000_000),
}
"""Three numbers for each kind of file, from which the typical number of a file's tokens is computed: the size of a
token in half bytes, the lowest estimate and the highest estimate (as in `_MOST`).

For example, 80 means that a token has 40 bytes.
"""

MAX_SEARCHES: Final = 1_000
"""Maximum number of searches that are estimated for one search tool, even if the client allows more."""
SEARCH_TOKENS: Final = 10_000
"""Number of tokens in the results of one search. They are charged as input, in addition to the search's fee."""
MAX_ANSWERS: Final = 128
"""Maximum number of answers for which tokens are estimated, even if the request asks for more."""


class Contents(msgspec.Struct):
    """The estimated usage of everything in a body that is not text."""

    size: int = 0
    """Number of bytes of the body that are media in base64."""
    usual: int = 0
    """Typical number of tokens of the media and of the tools' results."""
    most: int = 0
    """Number of tokens that the media and the tools' results hardly ever exceed."""
    searches: int = 0
    """Number of searches that the provider may charge for."""
    fees: int = 0
    """Fees in nanodollars for tools that the provider runs, other than searches."""
    answers: int = 1
    """Number of answers that the request asks for."""

    def add(self, part: BilledPart) -> None:
        """Add the tokens, searches and fees that a part of a request may cost."""
        match part:
            case File(kind, size):
                self.size += size
                self._add_tokens(*_file_tokens(kind, size))
            case Search(most, is_paid):
                count = min(max(most, 1), MAX_SEARCHES)
                self.searches += count if is_paid else 0
                self._add_tokens(SEARCH_TOKENS, count * SEARCH_TOKENS)
            case AddedTokens(usual, most):
                self._add_tokens(usual, most)
            case Fee(nanodollars):
                self.fees += nanodollars
            case Answers(number):
                self.answers = min(max(number, 1), MAX_ANSWERS)

    def _add_tokens(self, usual: int, most: int) -> None:
        self.usual = min(self.usual + usual, MAX_COUNT)
        self.most = min(self.most + most, MAX_COUNT)


def contents_of(parts: Iterable[BilledPart]) -> Contents:
    """Return the sums of the sizes, tokens, searches and fees of all parts of a body."""
    contents = Contents()
    for part in parts:
        contents.add(part)
    return contents


def _file_tokens(kind: FileKind, size: int) -> tuple[int, int]:
    """Return the typical and the highest number of tokens of a file with `size` bytes of base64 text."""
    if kind == "image":
        return IMAGE_TOKENS, IMAGE_TOKENS
    if size <= 0:
        return REMOTE_DOCUMENT_TOKENS, REMOTE_DOCUMENT_TOKENS
    return _tokens(size * 3 // 4, *_USUAL[kind]), _tokens(size * 3 // 4, *_MOST[kind])


def _tokens(size: int, half_bytes: int, least: int, most: int) -> int:
    return min(max(least, 2 * size // half_bytes), most)
