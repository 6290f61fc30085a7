"""Facts about the clients of an API, for the error message about a wrong base URL.

A client appends a path of its API, such as `/chat/completions`, to its base URL. So the end of a requested path shows
which API the client uses, even if the base URL is wrong.

Each compatibility flag (the plugin of one API format) declares a `ClientApi` for its own clients. This module treats
all flags alike.
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
    """The correct base URLs of an API's clients, and other facts for the error message about a wrong base URL.

    >>> ClientApi(("/acme/v1",), "ACME_BASE_URL", paths=("/acme/v1/embeddings",)).bases
    ('/acme/v1',)
    """

    bases: tuple[str, ...]
    """Correct paths of a client's base URL, such as `("/v1",)`, the most common first. "" is the root."""
    setting: str
    """The name of the client's setting for the base URL, as messages write it: `base_url or OPENAI_BASE_URL`."""
    paths: tuple[str, ...] = ()
    """Paths of the API that the gateway does not serve, such as `/v1/embeddings`. Each path begins with the first of
    `bases`. Placeholders are in braces.

    A client that requests such a path has the right base URL. So the error message does not correct the URL, but lists
    the served paths.
    """
    headers: tuple[str, ...] = ()
    """Names of headers, in lower case, by which the gateway recognises the clients of this API: no other clients send
    them.
    """


class Slip(NamedTuple):
    """The correct path for a request whose base URL was wrong.

    >>> client_api.slip_of("/v2/acme/v1/text", ["/acme/v1/text"], ["/acme/v1"]).base
    '/acme/v1'
    """

    base: str
    """The correct path of the client's base URL."""
    template: str
    """The path that the client should request. Placeholders are in braces, as in `/acme/v1/models/{model}`."""


def slip_of(path: str, templates: Sequence[str], bases: Sequence[str]) -> Slip | None:
    """Return the right path for a wrong one, or None if no template fits.

    `templates` are the paths of the API, and `bases` are the correct paths of the base URL. A template consists of a
    base and an ending. It fits if `path` ends with this ending. For example, the template `/acme/v1/text` with the base
    `/acme/v1` fits all paths that end with `/text`.

    >>> client_api.slip_of("/text", ["/acme/v1/text"], ["/acme/v1"])
    Slip(base='/acme/v1', template='/acme/v1/text')
    >>> client_api.slip_of("/images", ["/acme/v1/text"], ["/acme/v1"])
    """
    for base in bases:
        for template in templates:
            if template.startswith(f"{base}/") and _ending(template.removeprefix(base)).search(path):
                return Slip(base, template)
    return None


@lru_cache(maxsize=512)
def _ending(template: str) -> re.Pattern[str]:
    """Return a pattern for paths that end with `template`. A placeholder in it matches any text, even with slashes."""
    texts = (re.escape(text) for text in _PLACEHOLDER.split(template))
    return re.compile("[^?]+".join(texts) + r"/?\Z")
