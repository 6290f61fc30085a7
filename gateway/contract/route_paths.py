"""Paths of routes, in aiohttp's resource syntax: `/models/{model}` or, with a pattern, `/models/{model:.+}`.

This module finds mistakes in paths, and conflicts between routes. It does no routing.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""The HTTP methods that a plugin's route may have."""
_PART: Final = re.compile(r"(\{[_a-zA-Z][^{}]*(?:\{[^{}]*\}[^{}]*)*\})")
"""Pattern for a placeholder in a path. The placeholder's own pattern may contain braces (aiohttp's
`web_urldispatcher.ROUTE_RE`)."""
_NAME: Final = re.compile(r"\{([_a-zA-Z][_a-zA-Z0-9]*)(?::(.+))?\}", re.DOTALL)
_ANY: Final = "[^{}/]+"
"""The pattern for a placeholder that has no pattern of its own, such as `{model}`."""


def path_fault(path: Any) -> str:
    """Return the fault of a route's path, and the correction, or "" if there is no fault."""
    if not isinstance(path, str) or not path.startswith("/") or re.search("[?# ]", _PART.sub("", path)):
        return 'write a path that begins with "/", without a query: "/acme/v1/text"'
    try:
        pattern = _pattern(path)
    except (ValueError, re.error) as error:
        return f'the path has a wrong placeholder ({error}); write "{{model}}" or "{{model:.+}}"'
    return "" if pattern.groups == 0 else 'a pattern has a group; write "(?:…)" instead of "(…)"'


def serves_path(path: str, other: str) -> bool:
    """Return whether a route for `path` would also match requests that are meant for a route with the path `other`."""
    return _pattern(path).fullmatch(_PART.sub("x", other)) is not None


def normal_path(path: str) -> str:
    """Return a path without the names of its placeholders, so that it can be compared with other paths."""
    return "".join(f"{{{match[2] or ''}}}" if (match := _NAME.fullmatch(part)) else part for part in _PART.split(path))


@lru_cache(maxsize=512)
def route_match(path: str) -> re.Pattern[str]:
    """Return a pattern for the paths that a route serves, with a named group for each placeholder."""
    parts = _PART.split(path)
    for at, part in enumerate(parts):
        placeholder = _NAME.fullmatch(part)
        parts[at] = f"(?P<{placeholder[1]}>{placeholder[2] or _ANY})" if placeholder else re.escape(part)
    return re.compile("".join(parts))


def _pattern(path: str) -> re.Pattern[str]:
    """Return a pattern for the paths that a route serves. Raises `ValueError` or `re.error` for a wrong placeholder."""
    parts = _PART.split(path)
    for at, part in enumerate(parts):
        if placeholder := _NAME.fullmatch(part):
            parts[at] = placeholder[2] or _ANY
        elif "{" in part or "}" in part:
            raise ValueError(part)
        else:
            parts[at] = re.escape(part)
    return re.compile("".join(parts))
