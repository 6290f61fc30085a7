"""Facts about the clients of an API, for the error message about a wrong base URL.

A client appends a path of its API, such as `/chat/completions`, to its base URL. Even if the base URL is wrong, the
end of the requested path shows which API the client uses.

Each compatibility flag (the plugin of one API format) declares a `ClientApi` for its own clients. The code here refers
to no particular flag.
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
    """The name of the setting for the base URL, as text for a message: `base_url or OPENAI_BASE_URL`."""
    paths: tuple[str, ...] = ()
    """Paths that belong to the API but that the gateway does not serve, such as `/v1/embeddings`. For a request to such
    a path, the error message lists the served paths, because the client's base URL is right.

    Each path begins with the first of `bases`. Placeholders are in braces.
    """
    headers: tuple[str, ...] = ()
    """Names of headers that only these clients send, in lower case."""


class Slip(NamedTuple):
    """The correct path for a request whose base URL was wrong.

    >>> client_api.slip_of("/v2/acme/v1/text", ["/acme/v1/text"], ["/acme/v1"]).base
    '/acme/v1'
    """

    base: str
    """The correct path of the client's base URL."""
    template: str
    """The path that the client would request with the correct base URL, with placeholders in braces."""


def slip_of(path: str, templates: Sequence[str], bases: Sequence[str]) -> Slip | None:
    """Return the correction of a wrong path, or None.

    `templates` are the paths of the API, and `bases` are the correct paths of the base URL. A path is corrected if it
    ends with the part of a template after the base. For example, the template `/acme/v1/text` and the base `/acme/v1`
    correct all paths that end with `/text`.

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
