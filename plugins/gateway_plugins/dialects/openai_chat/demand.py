"""Builds the messages of a request that is translated to Chat, so that OpenAI and compatible servers accept them.

The translation adds the client's messages to a `Conversation`, in order and with the client's tool ids.
`Conversation` makes the value of `messages`. The rules are the same for all clients' dialects. They depend on the model
only through its capabilities (`Caps`). Tools and parameters are in `options.py`. Source: OpenAI's API reference (Chat).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop, Target
from gateway_plugins.dialects.openai_chat.assistant import AssistantMessage, complete
from gateway_plugins.shared.conversation import Piece
from gateway_plugins.shared.media import Media
from gateway_plugins.shared.reasoning import Maker
from gateway_plugins.shared.tools import ToolIds, is_own_id, tool_id
from gateway_plugins.shared.turns import CONTINUE, NO_OUTPUT, NO_RESULT, Block, frame_document

BETWEEN: Final = "."
"""Text of an assistant message that the gateway adds between tool results and a user message.

Some models do not accept a user message right after tool results."""
ATTACHED: Final = "(the files of this result follow in the next message)"
_FILES_OF: Final = "The files of the tool result {}:"
_FAILED: Final = "Error: "
"""Beginning of the text of a failed tool result. Chat has no field for the failure."""

_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,40}")
"""Pattern for the id of a tool call. OpenAI refuses an id of more than 40 characters."""
_TEXTS: Final = frozenset({"txt", "md", "csv", "html"})


def text(value: str) -> Block:
    return {"type": "text", "text": value}


def is_blank(part: Block) -> bool:
    """Return whether a part is a text of only white space. Some servers refuse such a part."""
    return part.get("type") == "text" and not part["text"].strip()


def media_part(media: Media, caps: Caps, field: str) -> Block:
    """Return a file as a part of a user message. Raises `Refused`, naming `field`, if the model cannot read the file.

    A text document becomes a text part, because every server reads text. Any other document becomes a `file` part.
    """
    offered = {"image": caps.images, "document": caps.documents, "audio": True}
    if not offered[media.kind]:
        raise invalid(f"{field}: this model takes no {media.kind}s", field)
    if media.kind == "audio":
        return {"type": "input_audio", "input_audio": {"data": media.base64, "format": media.format}}
    if media.format in _TEXTS:
        return document_text(media, field)
    url = f"data:{media.mime};base64,{media.base64}"
    if media.kind == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"filename": _filename(media), "file_data": url}}


def document_text(media: Media, field: str) -> Block:
    try:
        content = media.data.decode()
    except UnicodeDecodeError:
        raise invalid(f"{field}: the text is not UTF-8", field) from None
    return text(frame_document(content, media.name))


def _filename(media: Media) -> str:
    """Return the file's name with its extension. OpenAI recognises the type of the file from the extension."""
    name = media.name.strip() or "document"
    return name if name.lower().endswith(f".{media.format}") else f"{name}.{media.format}"


class Conversation:
    """Builds the value of `messages`. Messages must be added in the client's order."""

    def __init__(self, target: Target, drop: Drop, glue: str = "") -> None:
        """Create an empty conversation. `glue` is put between two consecutive texts of the assistant."""
        caps = target.caps
        self._glue = glue
        self._caps = caps
        self._maker = Maker.of(target)
        self._drop = drop
        self._ids = ToolIds(caps.tool_id_alphanumeric, caps.own_tool_ids)
        self._messages: list[Block] = []
        self._assistant_at = ""
        """JSON pointer of the assistant's last turn."""
        self._results: list[Block] = []
        self._others: list[Block] = []
        """User and system messages since the assistant's last turn. They are sent after the tool results in
        `_results`."""

    def text(self, value: str) -> Block:
        return text(value)

    def file(self, media: Media, field: str) -> list[Block]:
        return [media_part(media, self._caps, field)]

    def system(self, value: str) -> None:
        """Add system text at the end of the conversation so far."""
        if value.strip():
            role = "system" if self._caps.system else "user"
            self._others.append({"role": role, "content": value})

    def hint(self, value: str) -> None:
        """Add an instruction that the gateway itself gives to the model. "" adds nothing.

        If the first message is a system message, the instruction is put at its end. Otherwise the instruction becomes a
        new first message: a system message, or a user message if the model accepts no system messages.
        """
        if not value:
            return
        self._flush()
        first = self._messages[0] if self._messages else {}
        if first.get("role") == "system":
            first["content"] = f"{first['content']}\n\n{value}"
        else:
            self._messages.insert(0, {"role": "system" if self._caps.system else "user", "content": value})

    def user(self, parts: Sequence[Block]) -> None:
        """Add a user message. `parts` have Chat's form."""
        visible = [part for part in parts if not is_blank(part)]
        if visible:
            self._others.append({"role": "user", "content": _content(visible)})

    def assistant(self, pieces: Sequence[Piece], at: str, refusal: str = "") -> None:
        """Add an assistant turn. `refusal` is the text with which the model refused, or "".

        Consecutive assistant turns become one message, so that all tool calls come before all results.
        """
        turn = AssistantMessage(self._caps, self._maker, self._drop, self._glue)
        turn.add(pieces)
        if turn.is_empty() and not refusal.strip():
            turn.report()
            return
        message = self._assistant_message()
        self._assistant_at = at
        turn.write(message, lambda call: self._ids.call(self._short(call.id or f"{at}#{call.name}")), refusal)

    def _assistant_message(self) -> Block:
        if self._messages and self._messages[-1]["role"] == "assistant" and not (self._results or self._others):
            return self._messages[-1]
        self._flush()
        self._messages.append({"role": "assistant", "content": None})
        return self._messages[-1]

    def result(self, call_id: str, parts: Sequence[Block], at: str, *, is_error: bool = False) -> None:
        """Add a tool result. Raises `Refused` if the last assistant turn has no tool call with the id `call_id`.

        `parts` have Chat's form. `at` is the JSON pointer of the client's field with the id. `is_error` is true if the
        call failed.
        """
        content = [part for part in parts if not is_blank(part)]
        if is_error and not _names_error(content):
            content = _failed(content)
        made: Block = {"role": "tool", "tool_call_id": self._short(call_id), "content": content}
        if self._ids.answer(made, "tool_call_id", at):
            self._results.append(made)

    def messages(self) -> list[Block]:
        """Return the messages, completed so that providers accept them.

        - A tool call without a result gets an error as its result.
        - If there are only system messages, a user message is added at the end.
        - If the last message is the assistant's and the model cannot continue it, a user message is added, and the
          assistant message is reported as dropped, although it is sent.
        """
        self._flush()
        complete(self._messages, self._caps)
        trailing = self._messages and self._messages[-1]["role"] == "assistant" and not self._caps.prefill
        if trailing:
            self._drop(self._assistant_at)
        if trailing or all(message["role"] == "system" for message in self._messages):
            self._messages.append({"role": "user", "content": CONTINUE})
        return self._messages

    def _short(self, client_id: str) -> str:
        """Return the client's id of a tool call. If the provider would refuse this id, return an id that is derived
        from it.
        """
        is_taken = _ID.fullmatch(client_id) or is_own_id(client_id, self._caps.own_tool_ids)
        return client_id if is_taken else tool_id(f"{client_id}\n")

    def _flush(self) -> None:
        """Append to `_messages` what came after the last assistant turn.

        The order is: tool results, the files in these results, all other messages.
        """
        files: list[Block] = []
        results = [*self._results, *map(_missing, self._ids.unanswered())]
        for result in results:
            files += _texts_only(result)
        others = [{"role": "user", "content": files}] if files else []
        others += self._others
        if results and others and self._caps.tool_result_alone:
            others.insert(0, {"role": "assistant", "content": BETWEEN})
        self._messages += [*results, *others]
        self._results, self._others = [], []
        self._ids.assistant_turn()


def _failed(content: list[Block]) -> list[Block]:
    """Return the content of a failed result, with "Error: " before its first text."""
    first = next((index for index, part in enumerate(content) if part["type"] == "text"), -1)
    if first < 0:
        return [text(_FAILED + NO_OUTPUT), *content]
    return [text(_FAILED + content[first]["text"]), *content[:first], *content[first + 1 :]]


def _names_error(content: Sequence[Block]) -> bool:
    first = content[0] if content else {}
    return "error" in str(first.get("text", ""))[:80].lower()


def _content(parts: list[Block]) -> str | list[Block]:
    """Return the parts. A single text is returned as a string, because some servers refuse a list."""
    return str(parts[0]["text"]) if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _missing(made: str) -> Block:
    return {"role": "tool", "tool_call_id": made, "content": [text(f"{_FAILED}{NO_RESULT}")]}


def _texts_only(result: Block) -> list[Block]:
    """Replace the content of a tool message by its text, because a tool message cannot have files.

    Return the files as parts for a user message.
    """
    files = [part for part in result["content"] if part["type"] != "text"]
    texts = [part["text"] for part in result["content"] if part["type"] == "text"]
    result["content"] = "\n".join([*texts, *([ATTACHED] if files else [])]) or NO_OUTPUT
    return [text(_FILES_OF.format(result["tool_call_id"])), *files] if files else []
