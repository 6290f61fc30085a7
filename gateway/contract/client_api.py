"""Facts about the clients of an API. With them, the gateway recognises a wrong base URL and names the correct one.

A client appends a path of its API to its base URL. If the base URL is wrong, the end of the requested path still shows
which API the client uses. Each compatibility flag (the plugin of one API format) has these facts as data. This module
names no flag.
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
    """Facts about the clients of one API. The gateway recognises a wrong base URL by them, and names the correct one.

    >>> ClientApi(("/acme/v1",), "ACME_BASE_URL", paths=("/acme/v1/embeddings",)).bases
    ('/acme/v1',)
    """

    bases: tuple[str, ...]
    """Correct paths of a client's base URL, such as `("/v1",)`. The most common path is first. "" is the root."""
    setting: str
    """The setting of clients that has the base URL, as text in a message: `base_url or OPENAI_BASE_URL`."""
    paths: tuple[str, ...] = ()
    """Paths of the API that the gateway does not serve, such as `/v1/embeddings`.

    They begin with the most common base path, and have braces for placeholders."""
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
    """The path that the client would request with the correct base URL. It has placeholders."""


def slip_of(path: str, templates: Sequence[str], bases: Sequence[str]) -> Slip | None:
    """Return the correction of a wrong path, or None.

    `templates` are the paths of the API, and `bases` the correct paths of the base URL. A template without its base is
    an ending, such as `/text` for the template `/acme/v1/text` and the base `/acme/v1`. A path that has the ending of a
    template can be corrected. Templates that begin with none of the bases are ignored.

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
    """Return a pattern for the end of a path. A placeholder matches any text, also across slashes."""
    texts = (re.escape(text) for text in _PLACEHOLDER.split(template))
    return re.compile("[^?]+".join(texts) + r"/?\Z")
