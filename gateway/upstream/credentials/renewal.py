"""A credential that expires. It is obtained at its first use, and renewed ahead of its expiry.

- Concurrent calls share one renewal. While the credential is valid, calls do not wait for its renewal.
- If a renewal fails, the credential is used until it expires, and the renewal is tried again.
- Only a call starts a renewal. There are no timers.

`aws_access.py`, `key_helpers.py` and `google_tokens.py` obtain the credentials.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final, Generic, NamedTuple, TypeVar

AGAIN_SECONDS: Final = 5.0
"""Minimum number of seconds between two tries to obtain a credential, so that an unavailable service is not flooded.
For a credential that is valid for less than 20 seconds, the minimum is a quarter of its validity."""
MAX_AHEAD_SECONDS: Final = 600.0
"""Maximum number of seconds by which a renewal precedes the expiry of a credential. A credential with a short life
is renewed in the last quarter of its life."""
REREAD_SECONDS: Final = 300.0
"""Seconds after which a credential without an expiry is read again, because its file may have been changed."""

T = TypeVar("T")


class CredentialFailed(Exception):
    """The error for a credential that cannot be obtained. The message has no secret."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        """The text that tells an operator what to do."""


class Obtained(NamedTuple, Generic[T]):
    """A credential and its expiry."""

    value: T
    expires_at: float = inf
    """Unix time in seconds, by the provider's clock, at which the credential expires. The time is infinite if it never
    expires.
    """


class Renewed(Generic[T]):
    """A credential that is renewed before it expires. `obtain` obtains it, and may raise `CredentialFailed`.

    `now` returns the Unix time in seconds. For AWS, this is the time by AWS's clock. `failed` is called after each
    failure of `obtain`.
    """

    __slots__ = ("_again_at", "_current", "_failed", "_failure", "_now", "_obtain", "_renew_at", "_task")

    def __init__(
        self,
        obtain: Callable[[], Awaitable[Obtained[T]]],
        now: Callable[[], float],
        failed: Callable[[CredentialFailed], None],
    ) -> None:
        self._obtain = obtain
        self._now = now
        self._failed = failed
        self._current: Obtained[T] | None = None
        self._renew_at = self._again_at = -inf
        self._failure = CredentialFailed("it was not obtained yet", "")
        self._task: asyncio.Task[None] | None = None

    def fresh(self) -> T | None:
        """Return the credential, or None if it is not valid. If a renewal is due, begin it."""
        current, now = self._current, self._now()
        if current is None or now >= current.expires_at:
            return None
        if now >= self._renew_at:
            self._begin(now)
        return current.value

    async def get(self) -> T:
        """Return the credential. If there is no valid one, wait until it is obtained.

        Raises `CredentialFailed` if it cannot be obtained.
        """
        value = self.fresh()
        if value is None:
            self._begin(self._now())
            if self._task is not None:
                await asyncio.shield(self._task)
            value = self.fresh()
        if value is None:
            raise self._failure
        return value

    async def other_than(self, refused: T) -> T | None:
        """Return a credential other than `refused`, which the provider has refused, or None if there is no other.

        If `refused` is the current credential, a new one is obtained first.
        """
        if self._current is not None and self._current.value == refused:
            self._begin(self._now())
            if self._task is None:
                return None
            await asyncio.shield(self._task)
        value = self.fresh()
        return None if value == refused else value

    def _begin(self, now: float) -> None:
        """Begin a renewal. Do nothing if one is in progress, or if one has ended less than `AGAIN_SECONDS` ago."""
        if self._task is None and not now < self._again_at <= now + AGAIN_SECONDS:
            self._task = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        quarter = inf
        try:
            self._current = await self._obtain()
            now, expires_at = self._now(), self._current.expires_at
            quarter = (expires_at - now) / 4
            self._renew_at = now + REREAD_SECONDS if expires_at == inf else expires_at - min(MAX_AHEAD_SECONDS, quarter)
        except CredentialFailed as failure:
            self._failure = failure
            self._failed(failure)
        finally:
            self._again_at = self._now() + min(AGAIN_SECONDS, quarter)
            self._task = None
