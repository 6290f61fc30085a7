"""Reads the session that a Messages request names.

Claude Code sends `metadata.user_id`. The value is JSON text with a `session_id` (captured from Claude Code 2.1.197),
or, in older releases, `user_..._session_<uuid>`.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

import orjson

from gateway.contract import session_ids as ids
from gateway.contract.flag import ClientRequest, SessionIds

_OLD_USER_ID: Final = re.compile(r"_session_([0-9a-fA-F-]{36})$")


def session_ids(request: ClientRequest) -> SessionIds:
    metadata = ids.small_member(request.top, "metadata")
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    if isinstance(user, str):
        if old := _OLD_USER_ID.search(user):
            return SessionIds(old[1])
        with suppress(ValueError):
            if session := ids.in_object(orjson.loads(user), "session_id"):
                return SessionIds(session)
    return ids.in_body(request.top)
