"""Session ids in the body of a request.

- The gateway first reads the headers of known clients. Then the hook `session_ids` of the client's compatibility flag
  (plugin of an API format) reads the body. If neither headers nor body have an id, the gateway finds the session by the
  chat's system prompt and first user message (`openings.py`).
- The default hook is `in_body`. It reads the fields that tracing tools use with any API. A flag whose API has another
  field for the id calls `small_member`:

    def session_ids(request):
        return SessionIds(session_ids.small_member(request.top, "chat_id"))
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from gateway.contract.errors import Refused
from gateway.contract.members import Members

_NAMES: Final = ("session_id", "litellm_session_id")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")


class SessionIds(NamedTuple):
    """The ids in a request's body. The gateway ignores invalid ids (`valid_id`).

    >>> SessionIds("chat-7")
    SessionIds(session='chat-7', cache_key='')
    """

    session: Any = ""
    """The id of the session. It is "" if the body has none."""
    cache_key: Any = ""
    """The prompt cache key in the body. It is "" if the body has none.

    Some known clients use one cache key for each session. For these clients only, the gateway takes the key as the
    session id.
    """


def in_body(top: Members) -> SessionIds:
    """Return the session id and the prompt cache key in the body.

    The session id is in `session_id` (OpenRouter), `litellm_session_id` (Cline, cline/cline#4457) or
    `metadata.session_id` (Langfuse). If there is none, `prompt_cache_key` is read.

    >>> session_ids.in_body(Members(b'{"metadata": {"session_id": "chat-7"}}'))
    SessionIds(session='chat-7', cache_key='')
    """
    named = (valid_id(small_member(top, name)) for name in _NAMES if name in top)
    session = next(filter(None, named), "") or in_object(small_member(top, "metadata"), "session_id")
    return SessionIds(session, "" if session else valid_id(small_member(top, "prompt_cache_key")))


def in_object(value: Any, name: str) -> str:
    """Return the valid session id in a field of a JSON object. Return "" if there is none.

    >>> session_ids.in_object({"id": "chat-7"}, "id"), session_ids.in_object("chat-7", "id")
    ('chat-7', '')
    """
    return valid_id(value.get(name)) if isinstance(value, dict) else ""


def small_member(top: Members, name: str) -> Any:
    """Return the value of a field of the body, or None if it is missing, too large or not valid JSON.

    >>> session_ids.small_member(Members(b'{"chat_id": "chat-7"}'), "chat_id")
    'chat-7'
    """
    try:
        return top.small(name)
    except Refused:
        return None


def valid_id(value: Any) -> str:
    """Return `value` if it is a valid session id, or "" otherwise. A valid id is safe in a path and in a log.

    >>> session_ids.valid_id("chat-7"), session_ids.valid_id("../chat")
    ('chat-7', '')
    """
    return value if isinstance(value, str) and _ID.fullmatch(value) else ""
