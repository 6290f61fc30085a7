"""The section `server.fetch`: whether files that clients name by URL are downloaded, and from where.

`gateway/upstream/fetch/guard.py` defines the addresses to which the gateway never connects.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from gateway.config.document.hujson import Path
from gateway.config.fields import Bytes, Seconds
from gateway.config.reading import Reading
from gateway.config.section import Section
from gateway.config.server import Fetching

_NAME: Final = r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?"
_PATTERN: Final = re.compile(rf"(\*\.)?{_NAME}")
_INSIDE: Final = re.compile(rf"{_NAME}(:[1-9][0-9]{{0,4}})?")


def _host_pattern(value: str) -> str:
    if not _PATTERN.fullmatch(value.lower()):
        raise ValueError(f'{json.dumps(value[:80])} is no name of hosts; write "images.example.com" or "*.example.com"')
    return value.lower()


def _host_inside(value: str) -> str:
    with suppress(ValueError):
        return str(ipaddress.ip_address(value))
    if not _INSIDE.fullmatch(value.lower()):
        example = 'write "files.example.ts.net", or "files.example.ts.net:8080" for that port alone'
        raise ValueError(f"{json.dumps(value[:80])} is no host; {example}")
    return value.lower()


_Patterns = Annotated[tuple[Annotated[str, AfterValidator(_host_pattern)], ...], Field(strict=False)]
_Inside = Annotated[tuple[Annotated[str, AfterValidator(_host_inside)], ...], Field(strict=False)]


class FetchSection(Section):
    """Settings for fetching images and documents that clients name by URL. The gateway fetches a file if the provider
    needs the content of the file.
    """

    enabled: bool = Field(
        Fetching().enabled, description="Whether files that clients name by URL are fetched: true or false."
    )
    max_bytes: Bytes = Field(Fetching().max_bytes, description="Maximum size of a file in bytes, such as 10485760.")
    timeout_seconds: Seconds = Field(
        Fetching().timeout_seconds,
        description="Maximum number of seconds for one file, including redirects, such as 20.",
    )
    allow_hosts: _Patterns = Field(
        (), description='The only public hosts from which files may be fetched; by default, all: ["*.example.com"].'
    )
    private_hosts: _Inside = Field(
        (), description='Hosts on private addresses from which files may be fetched: ["files.example.ts.net:8080"].'
    )


def read_fetch(server: Mapping[str, Any], path: Path, reading: Reading) -> Fetching:
    """Return the settings under `fetch` of the section `server`. `path` is the path of `server`."""
    return Fetching(**reading.within(FetchSection, server, (*path, "fetch")).model_dump())
