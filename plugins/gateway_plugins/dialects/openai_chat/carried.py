"""Encodes the encrypted reasoning that a Chat provider requires back. The client stores it until the next turn.

- Some providers add encrypted reasoning to messages and tool calls, and require it back unchanged. Examples are
  Gemini's thought signatures and OpenRouter's `reasoning_details`. Other dialects have no fields for encrypted
  reasoning.
- So the client gets the encrypted reasoning as the signature of a thinking block, or as redacted thinking. Clients of
  every dialect send these back.
- The id of a tool call, which clients send back too, would be too short: encrypted reasoning has 1,000 to 100,000
  characters, and providers and clients limit the length of ids.
- The encrypted reasoning goes back only to the model family that made it. A field that only one provider understands
  goes back only to this provider.
- A value that a client changed or forged is ignored, and reported as dropped.

Sources: Google's guide to thought signatures (OpenAI compatibility), OpenRouter's guide to reasoning tokens, LiteLLM's
fields, xAI's and GitHub Copilot's encrypted reasoning, Mistral's thinking chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.contract.flag import Drop
from gateway_plugins.shared.lenient import mapping, sequence, text
from gateway_plugins.shared.reasoning import Maker

Json = dict[str, Any]

FORM: Final = "chat"
DETAILS: Final = "reasoning_details"
MESSAGE: Final = frozenset({
    DETAILS, "extra_content", "provider_specific_fields", "reasoning_opaque", "reasoning_signature",
    "encrypted_content", "encrypted_reasoning", "thought_signature",
})  # fmt: skip
"""Names of a message's fields in which encrypted reasoning may be."""
CALL: Final = frozenset({"extra_content", "provider_specific_fields", "thought_signature"})
"""Names of fields of a tool call, or of its `function`, in which encrypted reasoning may be."""
_OF_FAMILY: Final = frozenset({"extra_content"})
"""Fields with encrypted reasoning that every provider of the model family gets back. Any other field with encrypted
reasoning goes back only to the provider that made it."""
_MARKS: Final = frozenset({"thought"})
"""Fields inside Google's `extra_content` that are not sent back. Each describes only one delta, and not the whole
message."""
_LITELLMS: Final = "provider_specific_fields"
_TOKENS: Final = frozenset({"thought_signature", "thought_signatures"})
"""Fields inside LiteLLM's `provider_specific_fields` that have encrypted reasoning.

The other fields of `provider_specific_fields` repeat other parts of the reply."""
TEXT: Final = "reasoning_content"
"""Name of the field in which most providers send thinking as plain text."""
PART: Final = "thinking"
"""Type of a part of `content` that has thinking, in Mistral's form."""
BLOCKS: Final = "thinking_blocks"
"""LiteLLM's field for thinking blocks with Anthropic's signatures."""
_TEXTS: Final = frozenset({TEXT, "reasoning", PART, BLOCKS, DETAILS})
_SIGNED: Final = ("signature", "data")
_JOINED: Final = {"reasoning.text": "text", "reasoning.summary": "summary"}
"""Field that has the pieces, for each type of entry in `reasoning_details` that a stream sends in pieces."""


class Gathered(msgspec.Struct):
    """The encrypted reasoning that has come from the provider and has not been sent to the client yet."""

    maker: Maker
    drop: Drop
    _message: Json = msgspec.field(default_factory=dict)
    _calls: dict[str, Json] = msgspec.field(default_factory=dict)

    def add(self, delta: Mapping[str, Any]) -> None:
        """Add the encrypted reasoning of a delta."""
        for name in MESSAGE & delta.keys():
            if name == DETAILS:
                entries = self._message.setdefault(DETAILS, [])
                for entry in map(mapping, sequence(delta[DETAILS])):
                    _add_entry(entries, entry)
            else:
                _add(self._message, name, delta[name])
                if delta[name] and name not in self._message:
                    self.drop(f"/reply/{name}")

    def add_whole(self, message: Mapping[str, Any]) -> None:
        """Add the encrypted reasoning of a whole message.

        Each entry of `reasoning_details` is complete, unlike in a stream.
        """
        self.add({name: value for name, value in message.items() if name != DETAILS})
        if entries := sequence(message.get(DETAILS)):
            self._message[DETAILS] = [*entries]

    def add_call(self, call_id: str, members: Json) -> None:
        if members:
            self._calls[call_id] = {**self._calls.get(call_id, {}), **members}

    def take(self, thinking: str = "", **signed: str) -> str:
        """Return the gathered reasoning, encoded for the client, and forget it. Return "" if there is none.

        The result becomes the signature of a thinking block, or redacted thinking.

        - `thinking` is the provider's field that had the text of the thinking block, such as `reasoning_content`. It is
          "" for redacted thinking.
        - `signed` is the field `signature` or `data` of an entry in LiteLLM's `thinking_blocks`.

        Reasoning that is too large is reported as dropped, and the result is "".
        """
        message = {name: value for name, value in self._message.items() if value}
        calls, self._message, self._calls = self._calls, {}, {}
        form = DETAILS if thinking and DETAILS in message else thinking
        members = {"text": form if form != TEXT else "", "message": message, "calls": calls, **signed}
        members = {name: value for name, value in members.items() if value}
        if not members:
            return ""
        token = self.maker.encoded(FORM, {"provider": self.maker.provider, **members})
        if not token:
            for name in (*message, *(["tool_calls"] if calls else []), *([BLOCKS] if signed else [])):
                self.drop(f"/reply/{name}")
        return token


def call_members(entry: Mapping[str, Any]) -> Json:
    """Return the fields of a tool call, and of its `function`, that have encrypted reasoning."""
    members: Json = {}
    for name in CALL & entry.keys():
        _add(members, name, entry[name])
    function = mapping(entry.get("function"))
    inner: Json = {}
    for name in CALL & function.keys():
        _add(inner, name, function[name])
    return members | ({"function": inner} if inner else {})


def _add(members: Json, name: str, value: Any) -> None:
    """Set the field `name`. An object is merged with the object from an earlier delta."""
    if isinstance(value, dict):
        inner = dict(mapping(members.get(name)))
        for key, each in value.items():
            if key not in _MARKS and (name != _LITELLMS or key in _TOKENS):
                _add(inner, key, each)
        value = inner
    if value:
        members[name] = value


def _add_entry(entries: list[Json], entry: Json) -> None:
    """Add an entry of `reasoning_details` from a stream, or join it to the last entry if it continues that.

    The pieces of one entry are consecutive, and have the same type and index.
    """
    last = entries[-1] if entries else {}
    kind, joined = entry.get("type"), _JOINED.get(text(entry.get("type")), "")
    if not joined or kind != last.get("type") or entry.get("index") != last.get("index"):
        entries.append(dict(entry))
        return
    pieces = text(last.get(joined)) + text(entry.get(joined))
    last |= {name: value for name, value in entry.items() if value is not None}
    if pieces:
        last[joined] = pieces


class Returned(msgspec.Struct, frozen=True):
    """Encrypted reasoning that a client sent back with a thinking block."""

    text: str
    """Name of the field in which the provider sent the text of the thinking block (one of `_TEXTS`)."""
    message: Json
    """Fields with encrypted reasoning, to put on the assistant's message."""
    calls: dict[str, Json]
    """Fields with encrypted reasoning to put on tool calls, by the id of the call."""
    signed: Json
    """The `signature` or `data` of a block in LiteLLM's `thinking_blocks`, or {} if there is none."""
    is_complete: bool = True
    """False if some fields were left out, because only the provider that made them understands them."""


def returned(value: str, maker: Maker) -> Returned | None:
    """Return the encrypted reasoning in `value`, the signature or data of a client's thinking block.

    Return None if `Gathered.take` did not encode `value`, or encoded it for another model family. If another provider
    of the same family made the reasoning, the fields that only that provider understands are left out.
    """
    decoded = maker.decoded(FORM, value)
    if not isinstance(decoded, dict) or not _is_sound(decoded):
        return None
    if decoded.get("provider") == maker.provider:
        signed = {name: decoded[name] for name in _SIGNED if name in decoded}
        return Returned(decoded.get("text") or TEXT, decoded.get("message", {}), decoded.get("calls", {}), signed)
    kept = {
        "message": _of_family(decoded.get("message", {})),
        "calls": {call_id: _of_family(members) for call_id, members in decoded.get("calls", {}).items()},
    }
    form = decoded.get("text", "")
    is_complete = form not in {BLOCKS, DETAILS} and all(kept[name] == decoded.get(name, {}) for name in kept)
    return Returned(TEXT if form in {"", BLOCKS, DETAILS} else form, **kept, signed={}, is_complete=is_complete)


def _of_family(members: Json) -> Json:
    return {name: value for name, value in members.items() if name in _OF_FAMILY}


def _is_sound(decoded: Json) -> bool:
    """Return whether `decoded` has the structure of the values that `Gathered.take` encodes."""
    message, calls = decoded.get("message", {}), decoded.get("calls", {})
    if not isinstance(message, dict) or not isinstance(calls, dict) or not message.keys() <= MESSAGE:
        return False
    if not isinstance(message.get(DETAILS, []), list) or str(decoded.get("text", "")) not in {"", *_TEXTS}:
        return False
    texts = (decoded.get(name, "") for name in _SIGNED)
    return all(isinstance(each, str) for each in texts) and all(map(_is_call, calls.values()))


def _is_call(members: Any) -> bool:
    inner = mapping(members).get("function", {})
    return (
        isinstance(members, dict)
        and members.keys() <= CALL | {"function"}
        and isinstance(inner, dict)
        and inner.keys() <= CALL
    )
