"""The patterns of `direct_paths`: which requests below `/direct` a grant allows.

A pattern is a path with globs, such as `/direct/acme/v1/files/**`. It may begin with the methods that it allows, as in
`GET,DELETE /direct/acme/v1/files/*`. A pattern without methods allows all methods. A pattern may omit `/direct/` at its
beginning, because Aperture's documents do not show whether Aperture's patterns begin with it.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from gateway.config.model import DirectPattern
from gateway.contract.route_paths import METHODS

ROOT: Final = "/direct/"
"""The beginning of the paths of all requests that are forwarded to a provider unchanged."""
_EXAMPLE: Final = 'write one such as "/direct/acme/v1/files/**" or "GET /direct/acme/v1/files/*"'
_PATH: Final = re.compile(r"[!$&-_a-z~]+")
"""Pattern for the path in an entry of `direct_paths`. It refuses `%` and `#`, because an entry is compared with a
decoded path.
"""
_NO_STEPS: Final = frozenset({"", ".", ".."})


def direct_pattern(text: str) -> DirectPattern:
    """Return the pattern that `text` describes. Raises `ValueError` if it is wrong or could match nothing."""
    before, space, after = text.partition(" ")
    path = ROOT + (after.strip() if space else before).removeprefix(ROOT).removeprefix("/")
    methods = frozenset(before.upper().split(",")) if space else frozenset(METHODS)
    shown = json.dumps(text[:80], ensure_ascii=False)
    if wrong := sorted(methods - set(METHODS)):
        raise ValueError(f'{shown}: "{wrong[0]}" is not one of the methods {", ".join(METHODS)}; {_EXAMPLE}')
    if path == ROOT:
        raise ValueError(f"{shown}: the path is missing; {_EXAMPLE}")
    if not _PATH.fullmatch(path) or "?" in path or "\\" in path:
        raise ValueError(f'{shown}: a path holds no "?", "#", "%", "\\\\", space or other letters; {_EXAMPLE}')
    if not _NO_STEPS.isdisjoint(path.removesuffix("/").split("/")[1:]):
        raise ValueError(f'{shown}: a path holds no "//", "." or ".." between slashes; {_EXAMPLE}')
    return DirectPattern(methods, path)


def _one_or_many(value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(item, str) for item in values):
        raise ValueError(f"must be a path, or a list of them; {_EXAMPLE}")
    return tuple(values)


def _checked(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        direct_pattern(value)
    return values


_SCHEMA: Final = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
DirectPaths = Annotated[
    tuple[str, ...], BeforeValidator(_one_or_many), AfterValidator(_checked), WithJsonSchema(_SCHEMA)
]
