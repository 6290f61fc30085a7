"""The AWS credentials of one provider. They sign its requests, or are used to make its short-term API keys.

- The credentials come from botocore's chain. With `assume_role`, they are exchanged for the credentials of a role.
- If the role's session depends on the caller, each caller has its own credentials.
- Everything that blocks runs in `threads` (`aws_chain.py`).
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Final

from gateway.config.credentials import AwsSettings
from gateway.upstream.credentials.aws_chain import Chain, RoleSession
from gateway.upstream.credentials.clock import Clock
from gateway.upstream.credentials.renewal import CredentialFailed, Obtained, Renewed
from gateway.upstream.credentials.sigv4 import KEY_SECONDS, Credentials, Signer
from gateway.upstream.credentials.values import Key
from gateway.upstream.subjects import Subject, filled, fitting

MAX_SESSIONS: Final = 1000
"""Maximum number of role sessions that are kept for the callers of a provider, about 3 KB of memory each. The least
recently used session is removed first."""
_NAME_LENGTHS: Final = range(2, 65)
"""Lengths in characters that STS allows for a session's name and for a source identity (AssumeRole)."""
_VALUE_LENGTHS: Final = range(257)
"""Lengths in characters that STS allows for the value of a session tag (AssumeRole)."""
_NOT_IN_NAME: Final = re.compile(r"[^\w+=,.@-]", re.ASCII)
_NOT_IN_VALUE: Final = re.compile(r"[^\w .:/=+@-]")


class AwsAccess:
    """The credentials of one provider. `failed` is called after each failure to obtain credentials."""

    def __init__(
        self, settings: AwsSettings, clock: Clock, threads: Executor, failed: Callable[[CredentialFailed], None]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._threads = threads
        self._failed = failed
        self._chain = Chain(settings.profile, settings.region, clock)
        self._base = Renewed(self._resolve, clock.now, failed)
        """The credentials that botocore's chain finds."""
        self._own: Renewed[Signer | Key] = Renewed(self._issue, clock.now, failed)
        """The credential of all calls, if no role is assumed."""
        self._sessions: OrderedDict[RoleSession, Renewed[Signer | Key]] = OrderedDict()

    def credential(self, subject: Subject) -> Renewed[Signer | Key]:
        """Return the credential for a caller's requests. It is the same for all callers if no role is assumed."""
        role = self._settings.assume_role
        if role is None:
            return self._own
        session = RoleSession(
            role.role_arn,
            _name(role.session_name, subject),
            role.duration_seconds,
            role.external_id,
            _name(role.source_identity, subject),
            tuple((key, _value(value, subject)) for key, value in role.session_tags),
        )
        if (renewed := self._sessions.get(session)) is None:
            renewed = self._sessions[session] = Renewed(partial(self._assume, session), self._clock.now, self._failed)
            if len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        else:
            self._sessions.move_to_end(session)
        return renewed

    async def has_other(self, subject: Subject, refused: Signer | Key, date: str) -> bool:
        """Return whether a retry of a refused request may succeed: there is a credential other than `refused`, or the
        clock was wrong.

        The clock is corrected by `date`, the header `Date` of the refusal. The credentials are read again from
        botocore's chain, because their file may have changed.
        """
        is_corrected = self._clock.learn(date)
        if (base := self._base.fresh()) is not None:
            await self._base.other_than(base)
        return await self.credential(subject).other_than(refused) is not None or is_corrected

    async def _resolve(self) -> Obtained[Credentials]:
        credentials = await self._in_thread(self._chain.credentials)
        return Obtained(credentials, credentials.expires_at)

    async def _issue(self) -> Obtained[Signer | Key]:
        return self._usable(await self._base.get())

    async def _assume(self, session: RoleSession) -> Obtained[Signer | Key]:
        base = await self._base.get()
        try:
            return self._usable(await self._in_thread(partial(self._chain.assume, base, session)))
        except CredentialFailed:
            other = await self._base.other_than(base)
            if other is None:
                raise
        return self._usable(await self._in_thread(partial(self._chain.assume, other, session)))

    async def _in_thread(self, work: Callable[[], Credentials]) -> Credentials:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _usable(self, credentials: Credentials) -> Obtained[Signer | Key]:
        """Return a credential of the configured kind: a signer that uses `credentials`, or a short-term API key that is
        made from them.
        """
        signer = Signer(credentials, self._settings.region, self._settings.service)
        if self._settings.signs:
            return Obtained(signer, credentials.expires_at)
        now = self._clock.now()
        key = Key(signer.api_key(now), f"API key of {credentials.source}")
        return Obtained(key, min(credentials.expires_at, now + KEY_SECONDS))


def _name(template: str, subject: Subject) -> str:
    return fitting(filled(template, subject), _NOT_IN_NAME, _NAME_LENGTHS)


def _value(template: str, subject: Subject) -> str:
    return fitting(filled(template, subject), _NOT_IN_VALUE, _VALUE_LENGTHS)
