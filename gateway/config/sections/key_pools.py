"""The key `apikeys` of a provider: several keys by name. Each call uses one of them.

`gateway/upstream/key_pools.py` chooses the key of a call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from gateway.config.document.hujson import Path
from gateway.config.document.secrets import HELPER, KEYFILE
from gateway.config.model import Authorization, PooledKey
from gateway.config.reading import Reading

MAX_KEYS: Final = 50
"""Maximum number of keys of a provider. The gateway keeps metrics of each key, and searches for each key in the
provider's replies."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
"""Pattern for the name of a key. Most keys of providers are longer, so a key that is written as a name by mistake is
refused."""


def read_key_pool(
    keys: Mapping[str, str], provider: Mapping[str, Any], authorization: Authorization, path: Path, reading: Reading
) -> tuple[PooledKey, ...]:
    """Return the keys in `apikeys` that have no fault. `provider` is the object that contains `apikeys`.

    `path` is the path of `apikeys`.
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
            form = HELPER if text.startswith(HELPER) else KEYFILE
            message = f'"{form}" is not for one of several keys; write the key, "env:NAME" or "file:PATH"'
            reading.report.error((*path, name), message)
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
    names: dict[str, str] = {}
    for key in pool:
        first = names.setdefault(key.secret.value, key.name)
        if key.secret and first != key.name:
            reading.report.warn((*path, key.name), f'is the same key as "{first}", and has no limit of its own')
