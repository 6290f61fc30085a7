"""Finds the differences between two configurations, as paths. Values are not shown, because a value may be a secret."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from gateway.config.credentials import ServiceAccount
from gateway.config.document.hujson import Path, dotted_path
from gateway.config.document.secrets import Secret
from gateway.config.model import Config

MAX_CHANGES: Final = 100
"""Maximum number of paths in a list of changes. It keeps the log line short if the whole file is replaced."""

_ABSENT: Final = object()


def changed_paths(before: Any, after: Any) -> list[str]:
    """Return the dotted paths of at most `MAX_CHANGES` values that were added, removed or changed.

    For an added or removed object, only the path of the object itself is returned.
    """
    return [dotted_path(path) for path in islice(_differing(before, after, ()), MAX_CHANGES)]


def rotated_keys(before: Config, after: Config) -> list[str]:
    """Return the paths of the API keys that have changed, such as `providers.bedrock.apikey`.

    A key may change although the document still names the same file or variable.
    """
    changed: list[Path] = []
    for id_, provider in after.providers.items():
        former = before.providers.get(id_)
        if former is None:
            continue
        if (former.apikey, _key_file(former.issuer)) != (provider.apikey, _key_file(provider.issuer)):
            changed.append(("providers", id_, "apikey"))
        values = {key.name: (key.secret, _key_file(key.source)) for key in former.apikeys}
        changed += [
            ("providers", id_, "apikeys", key.name)
            for key in provider.apikeys
            if key.name in values and values[key.name] != (key.secret, _key_file(key.source))
        ]
    return [*map(dotted_path, changed)]


def _key_file(source: object) -> tuple[str, Secret] | None:
    """Return the values that a source of keys takes from a key file: the account's e-mail address and its private key.

    Return None for a source without a key file.
    """
    return (source.email, source.key) if isinstance(source, ServiceAccount) else None


def _differing(before: Any, after: Any, path: Path) -> Iterator[Path]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in (*before, *(name for name in after if name not in before)):
            yield from _differing(before.get(name, _ABSENT), after.get(name, _ABSENT), (*path, name))
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            yield from _differing(_at(before, index), _at(after, index), (*path, index))
    elif type(before) is not type(after) or before != after:
        # 1, 1.0 and True are equal in Python, but they are different values in a configuration
        yield path


def _at(elements: list[Any], index: int) -> Any:
    return elements[index] if index < len(elements) else _ABSENT
