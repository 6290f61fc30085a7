"""The ids by which the body of a request names its session.

- The gateway looks for a session id in the headers of known clients first. The hook `session_ids` of the client's
  compatibility flag reads the body. If no id is found, the session is found by the opening of the chat (`openings.py`).
- `in_body` reads the keys that tracing tools use with any API. It is the default of compatibility flags (plugins of API
  formats). A flag whose clients use another key calls `small_member`:

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
    """The ids in a request's body. The gateway ignores an id that is not valid (`valid_id`).

    >>> SessionIds("chat-7")
    SessionIds(session='chat-7', cache_key='')
    """

    session: Any = ""
    """The id of the session; "" if the body names no session."""
    cache_key: Any = ""
    """The key of a prompt cache; "" if the body has none.

    Few clients use a separate key for each session. So the gateway uses the key only for clients that are known to do
    so."""


def in_body(top: Members) -> SessionIds:
    """Return the ids in the fields `session_id`, `litellm_session_id`, `metadata.session_id` and `prompt_cache_key`.

    OpenRouter has the first field, Cline the second one (cline/cline#4457), and Langfuse the third one.

    >>> session_ids.in_body(Members(b'{"metadata": {"session_id": "chat-7"}}'))
    SessionIds(session='chat-7', cache_key='')
    """
    named = (valid_id(small_member(top, name)) for name in _NAMES if name in top)
    session = next(filter(None, named), "") or in_object(small_member(top, "metadata"), "session_id")
    return SessionIds(session, "" if session else valid_id(small_member(top, "prompt_cache_key")))


def in_object(value: Any, name: str) -> str:
    """Return the id in a field of a JSON object; "" if there is none.

    >>> session_ids.in_object({"id": "chat-7"}, "id"), session_ids.in_object("chat-7", "id")
    ('chat-7', '')
    """
    return valid_id(value.get(name)) if isinstance(value, dict) else ""


def small_member(top: Members, name: str) -> Any:
    """Return the value of a field of the body; None if it is missing, too large, or not strictly valid JSON.

    >>> session_ids.small_member(Members(b'{"chat_id": "chat-7"}'), "chat_id")
    'chat-7'
    """
    try:
        return top.small(name)
    except Refused:
        return None


def valid_id(value: Any) -> str:
    """Return `value` if it is a valid session id, which is safe in a path, a log and a table; "" otherwise.

    >>> session_ids.valid_id("chat-7"), session_ids.valid_id("../chat")
    ('chat-7', '')
    """
    return value if isinstance(value, str) and _ID.fullmatch(value) else ""
