"""The sources of keys that are obtained at run time: a program (`exec:`), or a Google service account (`keyfile::`).

A provider's `apikey` and each key in its `apikeys` may have such a source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from gateway.config.credentials import CredentialSource
from gateway.config.document.hujson import Path
from gateway.config.document.secrets import KEYFILE
from gateway.config.model import Authorization
from gateway.config.reading import Reading
from gateway.config.sections.key_helpers import read_key_helper
from gateway.config.sections.service_accounts import GoogleSection, read_service_account

SourceOf = Callable[[str, Path], CredentialSource | None]
"""A function that returns the source of a key that is obtained at run time, or None for any other key.

Its arguments are the text of the key, and its path in the document. It reports the faults of the text.
"""


def key_sources(
    provider: Mapping[str, Any], authorization: Authorization, authorities: str, path: Path, reading: Reading
) -> SourceOf:
    """Return the function that reads a provider's keys if they are obtained at run time. `path` is the path of the
    provider.

    Report an error if a key is a Google service account and `authorization` is neither `bearer` nor `sigv4`. Warn of a
    section `google` if no key is a service account.
    """
    google = reading.within(GoogleSection, provider, (*path, "google"))
    texts = [text for text in _texts(provider) if text.startswith(KEYFILE)]
    if texts and authorization not in {"bearer", "sigv4"}:
        message = f'is "{authorization}", but tokens by "{KEYFILE}" are sent as "bearer"; leave it out'
        reading.report.error((*path, "authorization"), message)
    if provider.get("google") is not None and not texts:
        reading.report.warn((*path, "google"), f'has no effect without a key of the form "{KEYFILE}PATH"')
    return partial(_source, google=google, authorities=authorities, reading=reading)


def _source(
    text: str, path: Path, *, google: GoogleSection, authorities: str, reading: Reading
) -> CredentialSource | None:
    helper = read_key_helper(text, path, reading)
    return helper or read_service_account(text, google, authorities, path, reading)


def _texts(provider: Mapping[str, Any]) -> Iterable[str]:
    keys = provider.get("apikeys")
    texts = [provider.get("apikey"), *(keys.values() if isinstance(keys, dict) else ())]
    return [text for text in texts if isinstance(text, str)]
