"""The session that a call belongs to.

- Clients such as Claude Code, Codex and opencode send the id of the session. If a client sends no id, the session is
  found by a fingerprint: a hash of the chat's beginning (`fingerprints.py`). A request without a user message is a
  session of its own, with a random id.
- Two chats may have the same beginning, such as "hi". So a session that was found by its fingerprint ends after
  `IDLE_SECONDS` without a call. A later call with the same fingerprint begins a new session.
- If two callers send the same id, they have two separate sessions. So nobody can reach another caller's session by
  sending its id.
"""

from __future__ import annotations

import os
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Final, NamedTuple, Protocol

from gateway.call.agents import WITH_CACHE_KEYS
from gateway.call.fingerprints import fingerprint
from gateway.contract.flag import ClientRequest, Opening, SessionIds
from gateway.contract.session_ids import valid_id

ID_HEADERS: Final = (
    "x-claude-code-session-id",
    "session-id",  # Codex from 0.169
    "session_id",  # Codex before 0.169, and pi
    "thread-id",
    "x-opencode-session",
    "x-session-affinity",  # opencode and pi
    "x-session-id",  # OpenRouter's name
    "x-openwebui-chat-id",
    "x-librechat-conversation-id",
    "x-litellm-session-id",
    "helicone-session-id",
)
IDLE_SECONDS: Final = 4 * 3600
"""Seconds without a call after which a session ends. This applies only to sessions that are recognised by a fingerprint
(a hash of the chat's beginning).

The time is long enough for a meal or a meeting. On the next day, the same first message usually begins a new chat.
"""
MAX_OPEN: Final = 10_000
"""Maximum number of remembered sessions with fingerprints. They take about 4 MB of memory. The session whose last call
is the oldest is forgotten first."""
KEY_BYTES: Final = 32

_OWN_ID: Final = re.compile(r"(fp_[0-9a-f]{16})_[0-9a-f]+")
_REQUEST_ID: Final = "x-client-request-id"


class ChatReader(Protocol):
    """The hooks of an API format's plugin that read what identifies a chat: the session id, and the opening of the
    chat.
    """

    def session_ids(self, request: ClientRequest) -> SessionIds: ...

    def opening(self, request: ClientRequest) -> Opening | None: ...


class _Open(NamedTuple):
    """A session that was found by its fingerprint and has not ended."""

    id: str
    last: float
    """Unix time in seconds of the last call."""


class Beginning(NamedTuple):
    """The session id that the client sent, or else the fingerprint of the chat. One of the two is ""."""

    session: str = ""
    fingerprint: str = ""


class StoredSession(Protocol):
    """The fields of a stored session that are needed to restore the session after a restart."""

    @property
    def id(self) -> str: ...
    @property
    def identity(self) -> str: ...
    @property
    def last_at(self) -> float: ...


class SessionFinder(Protocol):
    """Finds the session of a call."""

    def id_of(
        self, request: ClientRequest, login: str, agent: str, flag: ChatReader
    ) -> str | Coroutine[None, None, str]:
        """Return the id of the session that a call belongs to. Another caller's session may have the same id.

        If this process does not know the id, return a coroutine that asks another process for it.
        """


class Sessions:
    """Finds the sessions of calls. Sessions without an id from the client are remembered by their fingerprint.

    A fingerprint is a hash of a chat's beginning. It is made with the secret `key`, so that nobody without the key can
    guess a chat's text from its session id.
    `clock` returns the Unix time in seconds.
    """

    def __init__(self, key: bytes, clock: Callable[[], float] = time) -> None:
        self._key = key
        self._clock = clock
        self._open: OrderedDict[tuple[str, str], _Open] = OrderedDict()

    def id_of(self, request: ClientRequest, login: str, agent: str, flag: ChatReader) -> str:
        """Return the id of the session that a call belongs to. It is unique only among the sessions of one caller.

        The opening of the chat is read only if the client sends no session id.
        """
        begin = self.beginning(request, login, agent, flag)
        return begin.session or self.current(login, begin.fingerprint)

    def beginning(self, request: ClientRequest, login: str, agent: str, flag: ChatReader) -> Beginning:
        """Return the session id that the client sends or, without one, the fingerprint of the chat. A request without a
        chat gets a new random id.
        """
        if session := named_session(request, agent, flag):
            return Beginning(session)
        begin = flag.opening(request)
        if begin is None:
            return Beginning(f"r_{secrets.token_hex(8)}")
        return Beginning(fingerprint=fingerprint(begin, login, agent, self._key))

    def known(self, login: str, begin: str) -> str:
        """Return the id of the caller's open session with the fingerprint `begin`, or "" if there is none. The session
        counts as used now.
        """
        known = self._open.get((login, begin))
        if known is None or (now := self._clock()) - known.last > IDLE_SECONDS:
            return ""
        self._remember((login, begin), _Open(known.id, max(now, known.last)))
        return known.id

    def restore(self, stored: Iterable[StoredSession]) -> None:
        """Remember sessions from the store, after a restart. In `stored`, the most recently used session is first."""
        for session in reversed(list(stored)):
            self.seen(session.identity, session.id, session.last_at)

    def seen(self, login: str, session: str, at: float) -> None:
        """Remember a session that another process has found. Its last call was at the Unix time `at` in seconds."""
        if own := _OWN_ID.fullmatch(session):
            known = self._open.get((login, own[1]))
            if known is None or known.last <= at:
                self._remember((login, own[1]), _Open(session, at))

    def begin(self, login: str, begin: str, session: str) -> None:
        """Remember the id `session`, which another process has chosen for the fingerprint `begin`."""
        self._remember((login, begin), _Open(session, self._clock()))

    def current(self, login: str, begin: str) -> str:
        """Return the id of the caller's open session with the fingerprint `begin`. If there is none, begin a new one.

        The id contains the time at which the session began, so that no later session gets the same id.
        """
        now = self._clock()
        known = self._open.get((login, begin))
        if known is None or now - known.last > IDLE_SECONDS:
            session = f"{begin}_{int(now):x}"
        else:
            # if the clock was set back, the session must not end earlier
            session, now = known.id, max(now, known.last)
        self._remember((login, begin), _Open(session, now))
        return session

    def _remember(self, name: tuple[str, str], session: _Open) -> None:
        self._open[name] = session
        self._open.move_to_end(name)
        if len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)


def named_session(request: ClientRequest, agent: str, flag: ChatReader) -> str:
    """Return the session id that the client sends, or "" if it sends none.

    `agent` is the name of the client program. `flag` finds the session ids in the request.
    """
    headers = request.headers
    if any(map(headers.__contains__, ID_HEADERS)):
        for name in ID_HEADERS:
            if name in headers and (session := valid_id(headers[name])):
                return session
    ids = flag.session_ids(request)
    if session := valid_id(ids.session):
        return session
    key = valid_id(ids.cache_key)
    # most clients use one cache key for several sessions, but a key equal to `x-client-request-id` names one session
    return key if agent in WITH_CACHE_KEYS or headers.get(_REQUEST_ID) == key else ""


def load_key(state: Path) -> bytes:
    """Return the key for fingerprints from the folder `state`. Create the key if there is none.

    Raises `OSError` if the file cannot be read or written, and `ValueError` if it is damaged.
    """
    path = state / "session.key"
    with suppress(FileNotFoundError):
        return _read_key(path)
    state.mkdir(parents=True, exist_ok=True)
    made = state / f".session.key.{secrets.token_hex(8)}"
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # unlike a rename, a link does not replace a key that another process has created meanwhile
        with suppress(FileExistsError):
            path.hardlink_to(made)
    finally:
        made.unlink()
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ValueError(
            f"{path}: a session key is {KEY_BYTES} bytes, this file has {len(key)}; delete it for a new one"
        )
    return key
