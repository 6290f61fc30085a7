"""The key `apikeys` of a provider: several keys by name. Each call uses one of them.

`gateway/upstream/key_pools.py` chooses the key of a call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from gateway.config.credentials import PooledKey
from gateway.config.document.hujson import Path
from gateway.config.document.secrets import HELPER, KEYFILE, Secret
from gateway.config.model import Authorization
from gateway.config.reading import Reading
from gateway.config.sections.key_sources import SourceOf

MAX_KEYS: Final = 50
"""Maximum number of keys of a provider. The gateway keeps metrics of each key, and searches for each key in the
provider's replies."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
"""Pattern for the name of a key. Its limit of 32 characters refuses most API keys that are written as a name by
mistake.
"""


def read_key_pool(
    keys: Mapping[str, str],
    provider: Mapping[str, Any],
    authorization: Authorization,
    source_of: SourceOf,
    path: Path,
    reading: Reading,
) -> tuple[PooledKey, ...]:
    """Return the keys in `apikeys` that have no fault. `provider` is the object that contains `apikeys`.

    `path` is the path of `apikeys`. `source_of` returns the source of a key that is obtained at run time.
    """
    if keys:
        _check_use(keys, provider, authorization, path, reading)
    pool: list[PooledKey] = []
    for name, text in keys.items():
        if not _NAME.fullmatch(name):
            # the name is not quoted, and not part of the path, because it may be a key
            message = 'a key\'s name has at most 32 letters, digits, ".", "_" and "-": {"team-a": "file:team-a.key"}'
            reading.report.error(path, message)
        elif text.startswith((HELPER, KEYFILE)):
            if (source := source_of(text, (*path, name))) is not None:
                pool.append(PooledKey(name, Secret(source=text.partition(":")[0]), source))
        elif not text.strip():
            reading.report.error((*path, name), 'is empty; write the key, "env:NAME" or "file:PATH"')
        else:
            pool.append(PooledKey(name, reading.secret(text, (*path, name))))
    _warn_of_equal_keys(pool, path, reading)
    return tuple(pool)


def _check_use(
    keys: Mapping[str, str], provider: Mapping[str, Any], authorization: Authorization, path: Path, reading: Reading
) -> None:
    if authorization == "sigv4" or provider.get("aws") is not None:
        reading.report.error(
            path, 'are not sent, because "aws" or "sigv4" makes the credentials; leave one of them out'
        )
    if provider.get("apikey"):
        reading.report.error(path, 'stands beside "apikey"; write all keys into "apikeys", or one into "apikey"')
    if len(keys) > MAX_KEYS:
        reading.report.error(path, f"has {len(keys)} keys; the gateway takes {MAX_KEYS} at most")


def _warn_of_equal_keys(pool: list[PooledKey], path: Path, reading: Reading) -> None:
    names: dict[object, str] = {}
    for key in pool:
        first = names.setdefault(key.source or key.secret.value, key.name)
        if (key.secret or key.source) and first != key.name:
            reading.report.warn((*path, key.name), f'is the same key as "{first}", and has no limit of its own')
