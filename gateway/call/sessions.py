"""The session that a call belongs to, and the client program that made the call.

- Clients such as Claude Code, Codex and opencode send the id of the session. If a client sends no id, the id is a keyed
  fingerprint of the beginning of the chat, or a random text if the request has no user message.
- The same id from two callers means two sessions. So a client that invents an id cannot reach another caller's session.

Nothing is stored here, except the key of the fingerprints.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.contract import lenient_json
from gateway.contract.errors import Refused
from gateway.contract.flag import ClientRequest, Members

ID_HEADERS: Final = (
    "x-claude-code-session-id",
    "session-id",  # Codex from 0.169
    "session_id",  # Codex before 0.169
    "thread-id",
    "x-session-affinity",  # opencode
    "x-session-id",
)
KEY_BYTES: Final = 32

_TELLING: Final = 1024 * 1024
"""Maximum number of bytes of a text that are hashed for the fingerprint. The length of the text is hashed too. Hashing
a text of 20 MB completely would block the event loop for 30 ms."""
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
_OLD_CLAUDE_ID: Final = re.compile(r"_session_([0-9a-fA-F-]{36})$")

AGENTS: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), family)
    for pattern, family in (
        (r"claude-cli/", "claude-cli"),
        (r"codex", "codex"),
        (r".*\bopencode/", "opencode"),
        (r"GeminiCLI", "gemini-cli"),
        (r"litellm/", "litellm"),
        (r"langchain|ls/JS", "langchain"),
        (r"QwenCode/", "qwen-code"),
        (r"Agents/Python", "Agents/Python"),
        (r"Agents/JavaScript", "Agents/JavaScript"),
        (r"agent-framework-python/", "agent-framework"),
        (r"DSPy/", "dspy"),
        (r"lm15/", "lm15"),
        (r"(Async)?Anthropic\w*/Python", "Anthropic/Python"),
        (r"Anthropic\w*/JS", "Anthropic/JS"),
        (r"(Async)?(Azure)?OpenAI/Python", "OpenAI/Python"),
        (r"(Azure)?OpenAI/JS", "OpenAI/JS"),
        (r"Anthropic\w*/Go", "Anthropic/Go"),
        (r"OpenAI\w*/Go", "OpenAI/Go"),
        (r"Anthropic\w*/Java\b", "Anthropic/Java"),
        (r"OpenAI\w*/Java\b", "OpenAI/Java"),
        (r"Boto3/|Botocore/|aiobotocore/", "Boto3"),
        (r"aws-sdk-js/", "aws-sdk-js"),
        (r"aws-sdk-java/", "aws-sdk-java"),
        (r"aws-sdk-go(-v2)?/", "aws-sdk-go"),
        (r"aws-sdk-rust/", "aws-sdk-rust"),
        (r"aws-cli/", "aws-cli"),
        (r"google-genai-sdk/", "google-genai"),
        (r".*\bai-sdk/|ai/", "ai-sdk"),
        (r"curl/", "curl"),
        (r"python-httpx/", "httpx"),
        (r"python-requests/", "requests"),
        (r"Python/[\d.]+ aiohttp/", "aiohttp"),
        (r"Go-http-client/", "go"),
        (r"node|undici", "node"),
        (r"Mozilla/", "browser"),
    )
)
"""Patterns for the beginning of a `User-Agent` header, each with the name of a client family. The first match is used.
So agents come before the SDKs that they are built on, and SDKs before general HTTP clients."""


def agent(headers: Mapping[str, str]) -> str:
    """Return the family of the client program by its `User-Agent` header: a name in `AGENTS`, or "other".

    Return "" if there is no such header.
    """
    name = headers.get("user-agent", "")
    return next((family for pattern, family in AGENTS if pattern.match(name)), "other" if name else "")


def session_id(request: ClientRequest, identity: str, key: bytes) -> str:
    """Return the id of the session that the call belongs to. It is unique only among the sessions of one caller."""
    return _from_client(request) or fingerprint(request, identity, key) or f"r_{secrets.token_hex(8)}"


def _from_client(request: ClientRequest) -> str:
    for name in ID_HEADERS:
        if session := _valid_id(request.headers.get(name)):
            return session
    if session := _claude_code_id(request.top):
        return session
    # only Codex has one cache key per conversation; other clients use the same key for several conversations
    return _valid_id(_member(request.top, "prompt_cache_key")) if agent(request.headers) == "codex" else ""


def _claude_code_id(top: Members) -> str:
    """Return the session id of Claude Code in the member `metadata.user_id`; "" if there is none.

    The member is JSON text with a `session_id`, or, in older versions, `user_..._session_<uuid>`.
    """
    metadata = _member(top, "metadata")
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(user, str):
        return ""
    if old := _OLD_CLAUDE_ID.search(user):
        return old[1]
    with suppress(ValueError):
        data = orjson.loads(user)
        return _valid_id(data.get("session_id")) if isinstance(data, dict) else ""
    return ""


def _valid_id(value: Any) -> str:
    """Return `value` if it is a valid id, which is safe in a path, a log and a table; "" otherwise."""
    return value if isinstance(value, str) and _ID.fullmatch(value) else ""


def _member(top: Members, name: str) -> Any:
    """Return the value of a member; None if it is missing, or is not strictly valid JSON."""
    try:
        return top.decode(name)
    except Refused:
        return None


def fingerprint(request: ClientRequest, identity: str, key: bytes) -> str:
    """Return a hash of the caller, the system prompt and the first user message; "" if the request is no chat.

    The result is `fp_` and 16 hex digits. Only the texts of the messages are hashed, because the marks of cached parts
    move from turn to turn. The hash is keyed, because a short prompt could be guessed from a plain hash.
    """
    read = _READERS.get(request.dialect)
    try:
        opening = read(request.top) if read else None
    except ValueError:
        # not strictly valid JSON; the step that needs the message refuses the request
        return ""
    if opening is None:
        return ""
    digest = blake2b(key=key, digest_size=8)
    for part in (identity, *opening):
        data = part.encode("utf-8", "replace")
        digest.update(len(data).to_bytes(8, "big") + data[:_TELLING])
    return f"fp_{digest.hexdigest()}"


Opening = tuple[str, str]
"""The system prompt and the first user message of a chat."""


def _messages(top: Members) -> Opening | None:
    """Read a body of OpenAI's chat API, Anthropic's API or Converse.

    The system prompt is the member `system`, or the first messages of the role `system` or `developer`, or both.
    """
    return _opening(_text(_member(top, "system")), _items(top, "messages"))


def _responses(top: Members) -> Opening | None:
    system = _text(_member(top, "instructions"))
    text = _member(top, "input")
    return (system, text) if isinstance(text, str) else _opening(system, _items(top, "input"))


def _gemini(top: Members) -> Opening | None:
    system = _member(top, "systemInstruction") or _member(top, "system_instruction")
    return _opening(_text(system), _items(top, "contents"))


def _opening(system: str, items: Iterator[bytes]) -> Opening | None:
    for raw in items:
        item = lenient_json.loads(raw)
        role = item.get("role", "user") if isinstance(item, dict) else ""
        if role in ("system", "developer"):  # a tuple, not a set: `role` may be any JSON, also a value without a hash
            system += _text(item)
        elif role == "user":
            # a message that is only an image has no text; its JSON distinguishes it from other images
            return system, _text(item) or raw.decode("utf-8", "replace")
    return None


def _items(top: Members, name: str) -> Iterator[bytes]:
    """Return the items of a list as undecoded JSON, so that only the beginning of a long chat is decoded."""
    try:
        return iter(lenient_json.raw_items(top.get(name, b"[]")))
    except ValueError:
        return iter(())


def _text(value: Any, depth: int = 4) -> str:
    """Return the joined texts of a message or of its content, in any dialect: a string, blocks with `text`, or `parts`.

    `depth` is the number of levels that are searched. No dialect nests texts deeper than 4 levels. Without a limit,
    a body with deeper nesting could exhaust the stack.
    """
    if isinstance(value, str):
        return value
    if depth and isinstance(value, list):
        return "".join(_text(entry, depth - 1) for entry in value)
    if depth and isinstance(value, dict):
        return next((_text(value[name], depth - 1) for name in ("content", "parts", "text") if name in value), "")
    return ""


_READERS: Final[Mapping[str, Callable[[Members], Opening | None]]] = {
    "openai_chat": _messages,
    "anthropic_messages": _messages,
    "bedrock_converse": _messages,
    "openai_responses": _responses,
    "gemini_generate_content": _gemini,
}


def load_key(state: Path) -> bytes:
    """Return the key of this gateway's fingerprints, and create it in the folder `state` if there is none.

    Raises `OSError`, and `ValueError` if the file is damaged.
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
