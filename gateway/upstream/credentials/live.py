"""The credentials that change at run time. They are obtained, renewed, and replaced when a provider refuses them.

The sources of credentials are AWS, programs that print keys, and Google service accounts (`Provider.issuer_of`). If a
provider has several keys, each key may have its own source. `keys.py` has the fixed keys of the configuration, and
decides whether a request has the client's own credential.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from time import monotonic
from typing import Final, NamedTuple

import msgspec

from gateway.config.credentials import AwsSettings, CredentialSource, KeyHelper, ServiceAccount
from gateway.config.model import Provider
from gateway.contract.flag import UpstreamRequest
from gateway.telemetry.log import Logger
from gateway.upstream.client import Upstream
from gateway.upstream.credentials import keys
from gateway.upstream.credentials.aws_access import AwsAccess
from gateway.upstream.credentials.clock import Clock
from gateway.upstream.credentials.google_tokens import GoogleAccess
from gateway.upstream.credentials.key_helpers import KeyHelperAccess
from gateway.upstream.credentials.renewal import CredentialFailed
from gateway.upstream.credentials.sigv4 import Signable, Signer
from gateway.upstream.credentials.values import Key
from gateway.upstream.subjects import Subject

THREADS: Final = 4
"""Number of threads in which credentials are obtained. A service that does not answer occupies a thread for seconds."""
SILENT_SECONDS: Final = 60.0
"""Seconds for which the same failure of a provider's credentials is not logged again."""
HASHED_HERE: Final = 1024 * 1024
"""Maximum number of bytes of a body whose hash is computed on the event loop. This takes about 1 ms at most. The hash
of a longer body is computed in a thread, because hashlib releases the GIL.
"""
_SIGNED_TOO: Final = ("content-type", "x-amz")
"""Prefixes of the headers that are signed in addition to `host`. AWS demands that all headers `x-amz-*` are signed."""


class Address(NamedTuple):
    """The address of a request, as it is sent: the header `host`, the path and the query."""

    host: str
    path: str
    query: str


class Used(NamedTuple):
    """The credential that a request was sent with."""

    credential: Signer | Key
    subject: Subject
    key: str = ""
    """The name of the provider's key to which the credential belongs. It is "" if the provider has only one."""

    @property
    def source(self) -> str:
        """The origin of the credential as text, for log and error messages. It may have the id of an AWS access key,
        which is no secret.
        """
        match self.credential:
            case Signer(credentials=credentials):
                return f"{credentials.source}, access key {credentials.access_key_id}"
            case Key(source=source):
                return source

    @property
    def secret(self) -> str:
        """The secret in the request, which clients must not see in a provider's reply."""
        match self.credential:
            case Signer(credentials=credentials):
                return credentials.session_token or credentials.access_key_id
            case Key(value=value):
                return value


class _Access(msgspec.Struct):
    """The way in which the credentials of one key are obtained. If the configured `issuer` changes, a new `_Access` is
    made.
    """

    issuer: AwsSettings | CredentialSource
    source: AwsAccess | KeyHelperAccess | GoogleAccess
    clock: Clock


class LiveCredentials(msgspec.Struct):
    """The provider credentials that the gateway obtains at run time, such as tokens from a token endpoint.

    The argument `key` of the methods is the key's name in `apikeys`. It is "" for a provider without `apikeys`.
    """

    log: Logger
    upstream: Upstream
    """The HTTP client for requests to token endpoints."""
    _accesses: dict[tuple[str, str], _Access] = msgspec.field(default_factory=dict)
    """The credentials by the provider's id and the key's name."""
    _threads: ThreadPoolExecutor = msgspec.field(
        default_factory=lambda: ThreadPoolExecutor(THREADS, thread_name_prefix="credentials")
    )
    _logged: dict[tuple[str, str], tuple[str, float]] = msgspec.field(default_factory=dict)
    """The last failure of each key that was logged, with the time of the log line by the monotonic clock."""

    def ready(self, provider: Provider, subject: Subject, key: str = "") -> Used | None:
        """Return the credential for a caller (`subject`) if it is valid, or None if it must be obtained first
        (`get`).
        """
        credential = self._access(provider, key).source.credential(subject).fresh()
        return None if credential is None else Used(credential, subject, key)

    async def get(self, provider: Provider, subject: Subject, key: str = "") -> Used:
        """Return the caller's credential. If there is no valid credential, wait until a new one is obtained.

        Raises `CredentialFailed` if no credential can be obtained.
        """
        return Used(await self._access(provider, key).source.credential(subject).get(), subject, key)

    async def headers(
        self, provider: Provider, used: Used, address: Address, request: UpstreamRequest, headers: Mapping[str, str]
    ) -> dict[str, str]:
        """Return the credential headers of a request. `used` is the credential.

        `headers` are the other headers of the request. The caller must not change them afterwards. Headers that a proxy
        may change are not signed.
        """
        match used.credential:
            case Key(value=value):
                return keys.key_headers(provider, value)
            case Signer() as signer:
                body = request.body
                payload = sha256(body) if len(body) <= HASHED_HERE else await asyncio.to_thread(sha256, body)
                names = [(name.lower(), value) for name, value in headers.items()]
                covered = {name: value for name, value in names if name.startswith(_SIGNED_TOO)}
                signable = Signable(request.method, *address, covered, payload.hexdigest())
                return signer.headers(signable, self._access(provider, used.key).clock.now())

    async def has_other(self, provider: Provider, used: Used, date: str) -> bool:
        """Return whether a retry of a refused request may succeed, with another credential or with a corrected clock.

        `date` is the header `Date` of the refusal.
        """
        return await self._access(provider, used.key).source.has_other(used.subject, used.credential, date)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _access(self, provider: Provider, key: str) -> _Access:
        place, issuer = (provider.id, key), provider.issuer_of(key)
        access = self._accesses.get(place)
        if access is None or access.issuer is not issuer:
            assert issuer is not None
            if access is None or access.issuer != issuer:
                access = self._accesses[place] = self._made(place, issuer)
            access.issuer = issuer
        return access

    def _made(self, place: tuple[str, str], issuer: AwsSettings | CredentialSource) -> _Access:
        clock, failed = Clock(partial(self._corrected, place)), partial(self._failed, place)
        match issuer:
            case AwsSettings():
                return _Access(issuer, AwsAccess(issuer, clock, self._threads, failed), clock)
            case KeyHelper():
                return _Access(issuer, KeyHelperAccess(issuer, self._threads, failed), clock)
            case ServiceAccount():
                return _Access(issuer, GoogleAccess(issuer, clock, self.upstream, self._threads, failed), clock)

    def _failed(self, place: tuple[str, str], failure: CredentialFailed) -> None:
        message, at = self._logged.get(place, ("", 0.0))
        if message == failure.message and monotonic() - at < SILENT_SECONDS:
            return
        self._logged[place] = failure.message, monotonic()
        self.log.warning("upstream.credentials_failed", **_named(place), message=failure.message, remedy=failure.remedy)

    def _corrected(self, place: tuple[str, str], offset: float) -> None:
        self.log.warning("upstream.clock_corrected", **_named(place), seconds=round(offset))


def _named(place: tuple[str, str]) -> dict[str, str]:
    """Return the log fields that name a provider and, if it has several keys, the key."""
    provider, key = place
    return {"provider": provider, **({"key": key} if key else {})}
