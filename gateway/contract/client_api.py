"""The API that a flag's clients believe to call, by which a wrong base URL is recognized.

A client adds a path of its own to the base URL that it was given. Where the base URL is wrong, the path's end still
says which API was meant. A flag says so as data; nothing here knows a flag's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

_PLACEHOLDER: Final = re.compile(r"\{[^{}]+\}")


@dataclass(frozen=True, slots=True)
class ClientApi:
    """What is known of the clients of a flag."""

    bases: tuple[str, ...]
    """Paths of the base URLs that clients are given, the usual one first: `("/v1",)`; "" is the root."""
    setting: str
    """What clients call the base URL: `base_url or OPENAI_BASE_URL`."""
    paths: tuple[str, ...] = ()
    """Paths of the API that no flag serves, under the usual base, with placeholders in braces: `/v1/embeddings`."""
    headers: tuple[str, ...] = ()
    """Names of headers, in lower case, that only these clients send."""


class Slip(NamedTuple):
    """A path that is not right, and the one that was meant."""

    base: str
    """The path of the base URL that the client needs."""
    template: str
    """The path that it would call then, with placeholders."""


def slip_of(path: str, templates: Sequence[str], bases: Sequence[str]) -> Slip | None:
    """Return what was meant by a path that ends as one of the templates does behind one of the bases; else None."""
    for base in bases:
        for template in templates:
            if template.startswith(f"{base}/") and _ending(template.removeprefix(base)).search(path):
                return Slip(base, template)
    return None


@lru_cache(maxsize=512)
def _ending(template: str) -> re.Pattern[str]:
    """Return a pattern for the end of a path; a placeholder is anything within it."""
    texts = (re.escape(text) for text in _PLACEHOLDER.split(template))
    return re.compile("[^?]+".join(texts) + r"/?\Z")
