"""Facts about the clients of a flag, by which a wrong base URL is recognised.

A client appends a path of its API to its base URL. If the base URL is wrong, the end of the path still shows which API
was meant. Each flag has these facts as data; nothing here knows a flag's name.
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
    """Facts about the clients of a flag."""

    bases: tuple[str, ...]
    """Paths of clients' base URLs, the usual one first: `("/v1",)`; "" is the root."""
    setting: str
    """The name of the base URL among clients' settings: `base_url or OPENAI_BASE_URL`."""
    paths: tuple[str, ...] = ()
    """Paths of the API that no flag serves, under the usual base, with placeholders in braces: `/v1/embeddings`."""
    headers: tuple[str, ...] = ()
    """Names of headers, in lower case, that only these clients send."""


class Slip(NamedTuple):
    """The correction of a wrong path."""

    base: str
    """The path of the base URL that the client needs."""
    template: str
    """The path that the client calls with that base URL, with placeholders."""


def slip_of(path: str, templates: Sequence[str], bases: Sequence[str]) -> Slip | None:
    """Return the correction of a path that ends like one of the templates under one of the bases, or None."""
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
