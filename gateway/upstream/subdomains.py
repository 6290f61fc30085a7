"""The address of another service of the same provider. The host names of the two services differ only in the first
label.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from gateway.config.model import Provider

_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def at_subdomain(provider: Provider, subdomain: str) -> Provider:
    """Return the provider with `subdomain` in place of the first label of its host name.

    The path of the base URL is left out. The other labels stay, so that a credential never goes to another domain.
    Raises `ValueError` if the host name has less than three labels, or if `subdomain` is not a valid label.
    """
    url = urlsplit(provider.baseurl)
    rest = (url.hostname or "").partition(".")[2]
    if "." not in rest or not _LABEL.fullmatch(subdomain):
        raise ValueError(f'"{subdomain}" can take the place of no part of the host {provider.host}')
    host = f"{subdomain}.{rest}"
    port = "" if url.port is None else f":{url.port}"
    return replace(provider, baseurl=f"{url.scheme}://{host}{port}", host=host)
