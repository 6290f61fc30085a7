"""Readers of `contents` and `systemInstruction` of a generateContent request.

The readers return values of `shared/plain_request.py`.

- Consecutive contents of the model become one message, because google-genai stores each chunk of a stream as a content.
  Consecutive texts of the model become one text.
- A function call without an id gets an id from its number in the conversation.
- A function response belongs to the call with the same id in the last turn of the model. If there is no such call, it
  belongs to the first unanswered call with the same name.
- A malformed value is refused with a 400 that names the field.
- In a turn of the model, a part that only Google's servers understand is left out and reported as dropped. A 400 would
  end the session.

Tools are in `read_tools.py`, parameters in `read_options.py`. Sources: Google's API reference (Content, Part) and the
types of google-genai.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import msgspec

from gateway.contract import lenient_json
from gateway.contract.errors import Refused, invalid
from gateway.contract.flag import Drop
from gateway_plugins.dialects.gemini_generate_content import signatures
from gateway_plugins.dialects.gemini_generate_content.fields import Fields, enum_value, fields, repeated
from gateway_plugins.shared import media
from gateway_plugins.shared.checks import arguments, flag_of, object_of, text_of
from gateway_plugins.shared.fields import param
from gateway_plugins.shared.media import Media
from gateway_plugins.shared.plain_request import Call, Message, Part
from gateway_plugins.shared.reasoning import Reasoning

_ROLES: Final = {"USER": "user", "MODEL": "model", "FUNCTION": "user"}
_CONTENT: Final = ("role", "parts")
_SERVERS: Final = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")
"""Kinds of parts about tools that run on Google's servers. They occur only in turns of the model."""
_DATA: Final = ("text", "inlineData", "fileData", "functionCall", "functionResponse", *_SERVERS)
"""Fields that give the kind of a part. A part has exactly one of them."""
_PART: Final = frozenset({*_DATA, "thought", "thoughtSignature"})
_SOUNDS: Final[Mapping[str, str]] = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/mp3": "mp3",
    "audio/mpeg": "mp3",
}
"""The gateway's name of an audio format, for each media type that clients send."""
_OWN_ID: Final = "gemini_call_"
"""Prefix of the ids that the gateway gives to function calls without an id."""
_OUTPUT: Final = "output"
_ERROR: Final = "error"


def messages(top: Fields, drop: Drop) -> list[Message]:
    """Return the system instruction and the conversation."""
    reader = _Contents(drop)
    reader.system(top)
    contents = repeated(top.get("contents"), top.at("contents"))
    if not contents:
        raise invalid("contents must be a list with at least one content", "contents")
    for raw, at in contents:
        reader.read(fields(raw, at, _CONTENT, drop))
    return reader.messages()


class _Contents(msgspec.Struct):
    """Converts the elements of `contents` to messages."""

    drop: Drop
    _conversation: list[Message] = msgspec.field(default_factory=list)
    _turn: list[Part | Call | Reasoning] = msgspec.field(default_factory=list)
    """Content of the model's current turn, as far as it has been read."""
    _turn_at: str = ""
    _thoughts: list[Reasoning] = msgspec.field(default_factory=list)
    """Thinking that has not been added to the turn yet.

    It is discarded if the next signature is one that the gateway wrote. Such a signature contains the same thinking.
    """
    _calls: list[Call] = msgspec.field(default_factory=list)
    """The function calls of the model's last turn."""
    _answered: set[str] = msgspec.field(default_factory=set)
    """The ids of the calls in `_calls` that have a response."""
    _count: int = 0
    """Number of function calls so far."""

    def system(self, top: Fields) -> None:
        if (value := top.get("systemInstruction")) is None:
            return
        content = fields(value, top.at("systemInstruction"), _CONTENT, self.drop)
        parts = []
        for part in self._parts(content):
            if _kind(part) != "text":
                raise _misplaced(part, "a system instruction holds text only")
            parts.append(Part(part.pointer, text_of(part.get("text"), part.at("text"))))
        self._conversation.append(Message("system", content.pointer, parts))

    def read(self, content: Fields) -> None:
        role = enum_value(content.get("role") or None, content.at("role"), _ROLES) or "user"
        if role == "model":
            self._turn_at = self._turn_at if self._turn else content.pointer
            for part in self._parts(content):
                self._models(part)
            return
        self._close()
        self._users(content)

    def messages(self) -> list[Message]:
        self._close()
        return self._conversation

    def _parts(self, content: Fields) -> list[Fields]:
        raws = repeated(content.get("parts"), content.at("parts"))
        return [fields(raw, at, _PART, self.drop) for raw, at in raws]

    def _close(self) -> None:
        """End the model's turn, and add it to the conversation.

        A turn that has only thinking is left out and reported as dropped, because providers refuse it.
        """
        self._add_thoughts()
        turn, self._turn = self._turn, []
        if not turn:
            return
        if all(isinstance(part, Reasoning) for part in turn):
            for part in turn:
                self.drop(part.at)
            return
        self._calls, self._answered = [part for part in turn if isinstance(part, Call)], set()
        self._conversation.append(Message("assistant", self._turn_at, turn))

    def _add_thoughts(self) -> None:
        """Move the thinking in `_thoughts` to the turn, as one block."""
        thoughts, self._thoughts = self._thoughts, []
        if thoughts:
            self._turn.append(replace(thoughts[0], text="".join(thought.text for thought in thoughts)))

    def _users(self, content: Fields) -> None:
        """Read an element of `contents` with the role of the user.

        Each function response becomes a separate message. All other parts become one message after these.
        """
        parts: list[Part] = []
        for part in self._parts(content):
            match _kind(part):
                case "functionResponse":
                    self._conversation.append(self._response(part))
                case "text":
                    parts.append(Part(part.pointer, text_of(part.get("text"), part.at("text"))))
                case "inlineData":
                    parts.append(Part(part.pointer, media=_file(part, self.drop)))
                case "fileData":
                    raise _not_here(part)
                case _:
                    raise _misplaced(part, "this cannot stand in a content of the user")
        if parts:
            self._conversation.append(Message("user", content.pointer, parts))

    def _models(self, part: Fields) -> None:
        signed = self._read_signature(part)
        kind = _kind(part, needed=False)
        if flag_of(part.get("thought"), part.at("thought")):
            if not signed:
                self._thoughts.append(Reasoning(part.pointer, text_of(part.get("text"), part.at("text"))))
            return
        if kind == "functionResponse":
            raise _misplaced(part, "this cannot stand in a content of the model")
        self._add_thoughts()
        if kind == "text":
            self._text(part)
        elif kind == "functionCall":
            self._turn.append(self._call(part))
        elif kind:
            self.drop(part.pointer)

    def _read_signature(self, part: Fields) -> bool:
        """Add the thinking blocks that are encoded in the part's `thoughtSignature`, if the gateway wrote it.

        Return whether the gateway wrote it. Any other signature is reported as dropped, because providers of other
        dialects cannot use it.
        """
        value = text_of(part.get("thoughtSignature"), part.at("thoughtSignature"))
        blocks = signatures.unpacked(value)
        if blocks is None:
            if value and not signatures.is_placeholder(value):
                self.drop(part.at("thoughtSignature"))
            return False
        self._thoughts = []
        for block in blocks:
            text, signature, data = (block.get(name, "") for name in ("thinking", "signature", "data"))
            self._turn.append(Reasoning(part.at("thoughtSignature"), text, signature, data))
        return True

    def _text(self, part: Fields) -> None:
        """Add a text to the turn. A text directly after another text continues that text."""
        text = text_of(part.get("text"), part.at("text"))
        last = self._turn[-1] if self._turn else None
        if isinstance(last, Part):
            self._turn[-1] = replace(last, text=last.text + text)
        else:
            self._turn.append(Part(part.pointer, text))

    def _call(self, part: Fields) -> Call:
        call = fields(part.get("functionCall"), part.at("functionCall"), ("id", "name", "args"), self.drop)
        call_id = text_of(call.get("id"), call.at("id")) or f"{_OWN_ID}{self._count}"
        self._count += 1
        input_ = object_of(call.get("args"), call.at("args"))
        return Call(call.pointer, call_id, _name(call), arguments(input_))

    def _response(self, part: Fields) -> Message:
        members = ("id", "name", "response", "parts")
        response = fields(part.get("functionResponse"), part.at("functionResponse"), members, self.drop)
        call = self._answered_call(response)
        self._answered.add(call.id)
        text, is_error = _output(response)
        parts = [Part(response.at("response"), text)] if text else []
        for raw, at in repeated(response.get("parts"), response.at("parts")):
            inner = fields(raw, at, _DATA, self.drop)
            if _kind(inner) != "inlineData":
                raise _not_here(inner)
            parts.append(Part(at, media=_file(inner, self.drop)))
        at = response.at("id" if response.get("id") else "name")
        return Message("tool", response.pointer, parts, call_id=call.id, call_at=at, is_error=is_error)

    def _answered_call(self, response: Fields) -> Call:
        """Return the function call that a response answers. Several responses may answer one call.

        Raises `Refused` if the model's last turn has no such call.
        """
        call_id, name = text_of(response.get("id"), response.at("id")), _name(response)
        by_id = [call for call in self._calls if call.id == call_id]
        by_name = [call for call in self._calls if call.name == name]
        waiting = [call for call in by_name if call.id not in self._answered]
        if found := [*by_id, *waiting, *by_name]:
            return found[0]
        field_ = param(response.at("id" if call_id else "name"))
        raise invalid(f'{field_}: "{call_id or name}" answers no function call of the model\'s last turn', field_)


def _kind(part: Fields, *, needed: bool = True) -> str:
    """Return the kind of a part: the one field of `_DATA` that the part has.

    Raises `Refused` if the part has several of these fields. If it has none, raises `Refused` if `needed` is true, and
    returns "" otherwise.
    """
    kinds = [name for name in _DATA if part.get(name) is not None]
    if len(kinds) > 1 or (needed and not kinds):
        field_ = param(part.pointer)
        raise invalid(f"{field_} must have exactly one of {', '.join(_DATA)}", field_)
    return kinds[0] if kinds else ""


def _name(value: Fields) -> str:
    name = text_of(value.get("name"), value.at("name"))
    if not name.strip():
        raise invalid(f"{param(value.at('name'))} must not be empty", param(value.at("name")))
    return name


def _misplaced(part: Fields, reason: str) -> Refused:
    field_ = param(part.at(_kind(part)))
    return invalid(f"{field_}: {reason}; leave it out", field_)


def _not_here(part: Fields) -> Refused:
    field_ = param(part.at(_kind(part)))
    return invalid(
        f"{field_}: no files are stored here; send the file itself as inlineData, or its http(s) URL", field_
    )


def _output(response: Fields) -> tuple[str, bool]:
    """Return the output of a function as text, and whether it is an error.

    The output is the field `output` or `error` of the response, if the response has no other field. Otherwise it is the
    whole response (Google's API reference, FunctionResponse).
    """
    value = object_of(response.get("response"), response.at("response"))
    if value.keys() == {_OUTPUT} or value.keys() == {_ERROR}:
        (name, inner), *_ = value.items()
        return inner if isinstance(inner, str) else lenient_json.dumps(inner).decode(), name == _ERROR
    return lenient_json.dumps(value).decode() if value else "", False


def _file(part: Fields, drop: Drop) -> Media:
    blob = fields(part.get("inlineData"), part.at("inlineData"), ("mimeType", "data", "displayName"), drop)
    field_ = param(blob.at("data"))
    declared = text_of(blob.get("mimeType"), blob.at("mimeType")).partition(";")[0].strip().lower()
    text, name = text_of(blob.get("data"), blob.at("data")), text_of(blob.get("displayName"), blob.at("displayName"))
    for family, read in _FAMILIES.items():
        if declared.startswith(family):
            return read(text, declared, field_)
    return media.file(media.decode_base64(text, field_), declared, name, field_)


def _image(text: str, declared: str, field_: str) -> Media:
    return media.image(f"data:{declared};base64,{text}", field_)


def _sound(text: str, declared: str, field_: str) -> Media:
    return media.audio(text, _SOUNDS.get(declared, declared), field_)


def _video(_text: str, _declared: str, field_: str) -> Media:
    raise invalid(f"{field_}: this provider takes no video; leave it out", field_)


_FAMILIES: Final[Mapping[str, Callable[[str, str, str], Media]]] = {
    "image/": _image,
    "audio/": _sound,
    "video/": _video,
}
"""The function that reads a file, by the prefix of the file's media type. Any other file is read as a document."""
