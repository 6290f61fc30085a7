"""Facts about the clients of a flag, by which the gateway recognises a client whose base URL is wrong.

A client appends a path of its API to its base URL. If the base URL is wrong, the end of the requested path still shows
which API the client uses. Each flag has these facts as data; this module names no flag.
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
    """Facts about the clients of a flag, by which they are recognised and advised."""

    bases: tuple[str, ...]
    """Correct paths of a client's base URL, the usual path first: `("/v1",)`; "" is the root."""
    setting: str
    """The names of the clients' settings that hold the base URL: `base_url or OPENAI_BASE_URL`."""
    paths: tuple[str, ...] = ()
    """Paths of the API that the gateway does not serve, with the usual base and braces for placeholders, such as
    `/v1/embeddings`."""
    headers: tuple[str, ...] = ()
    """Names of headers that only these clients send, in lower case."""


class Slip(NamedTuple):
    """The correct path for a request whose base URL was wrong."""

    base: str
    """The path that the client's base URL must have."""
    template: str
    """The path that the client requests with the correct base URL, with placeholders."""


def slip_of(path: str, templates: Sequence[str], bases: Sequence[str]) -> Slip | None:
    """Return the correction of a wrong path, or None.

    `templates` are the paths of the clients' API; `bases` are the correct paths of the clients' base URL. A template
    that begins with one of the bases consists of this base and a rest. A path can be corrected if it ends with the rest
    of such a template. Other templates are ignored.
    """
    for base in bases:
        for template in templates:
            if template.startswith(f"{base}/") and _ending(template.removeprefix(base)).search(path):
                return Slip(base, template)
    return None


@lru_cache(maxsize=512)
def _ending(template: str) -> re.Pattern[str]:
    """Return a pattern for the end of a path. A placeholder matches any text, also across slashes."""
    texts = (re.escape(text) for text in _PLACEHOLDER.split(template))
    return re.compile("[^?]+".join(texts) + r"/?\Z")
