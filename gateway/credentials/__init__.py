"""How a provider's key is shown to it: one header by the name of the scheme in the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

_SCHEMES: Final[Mapping[str, Callable[[str], tuple[str, str]]]] = {
    "bearer": lambda key: ("authorization", f"Bearer {key}"),
    "x-api-key": lambda key: ("x-api-key", key),
    "x-goog-api-key": lambda key: ("x-goog-api-key", key),
}


def header(scheme: str, key: str) -> dict[str, str]:
    """The credential header; none for an empty key, as of a local server that asks for none."""
    if not key:
        return {}
    name, value = _SCHEMES[scheme](key)
    return {name: value}
