"""Writers of the items in a Responses reply: message, reasoning, and three kinds of tool calls.

- An item sends its events with `send(kind, members)`. If the reply is not streamed, `send` does nothing. At the end,
  `body` of the item becomes an element of `output`. So the same code writes both kinds of replies.
- Ids of items are created here, because replies in other dialects have none.

`emit.py` chooses the item for each piece of a reply, and sends the events of the response itself. Source: the openai
SDK's types of items and stream events.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from gateway.contract import lenient_json
from gateway_plugins.dialects.openai import custom_tools
from gateway_plugins.dialects.openai_responses import reasoning as responses_reasoning
from gateway_plugins.dialects.openai_responses.names import CUSTOM, FUNCTION, LOCAL_SHELL, Origin
from gateway_plugins.shared.reply_events import Citation

Json = dict[str, Any]
Send = Callable[[str, Json], None]
"""A function that sends an event. It gets the event's type and fields, and adds the field `output_index`."""

IN_PROGRESS: Final = "in_progress"
COMPLETED: Final = "completed"
INCOMPLETE: Final = "incomplete"


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"


class Item:
    """Base class of the items. `body` is the item's JSON object in the response."""

    def __init__(self, body: Json, send: Send) -> None:
        self.body = body
        self._send = send

    def begin(self) -> None:
        self._send("response.output_item.added", {"item": self.body})

    def block_end(self) -> None:
        """End one block of text or thinking. The item stays open and may get more blocks."""

    def end(self, status: str) -> None:
        self.block_end()
        self._finish(status)
        self._send("response.output_item.done", {"item": self.body})

    def _finish(self, status: str) -> None:
        self.body["status"] = status


class Message(Item):
    """A message of the assistant, with one part for each block of text and each refusal."""

    def __init__(self, send: Send) -> None:
        body = {"id": new_id("msg"), "type": "message", "status": IN_PROGRESS, "role": "assistant", "content": []}
        super().__init__(body, send)
        self._part: Json | None = None
        self._pieces: list[str] = []
        self._citations: list[Citation] = []

    def text(self, piece: str) -> None:
        self._open("output_text", {"text": "", "annotations": [], "logprobs": []})
        self._pieces.append(piece)
        self._event("response.output_text.delta", {"delta": piece, "logprobs": []})

    def refusal(self, piece: str) -> None:
        self._open("refusal", {"refusal": ""})
        self._pieces.append(piece)
        self._event("response.refusal.delta", {"delta": piece})

    def citation(self, citation: Citation) -> None:
        """Add a citation. The event of a citation contains the length of the whole text, and is therefore sent at the
        end of the text.
        """
        self._open("output_text", {"text": "", "annotations": [], "logprobs": []})
        self._citations.append(citation)

    def block_end(self) -> None:
        if self._part is None:
            return
        part, text = self._part, "".join(self._pieces)
        name = "text" if part["type"] == "output_text" else "refusal"
        part[name] = text
        for citation in self._citations:
            self._annotate(part, citation, len(text))
        if name == "text":
            self._event("response.output_text.done", {"text": text, "logprobs": []})
        else:
            self._event("response.refusal.done", {"refusal": text})
        self._event("response.content_part.done", {"part": part})
        self._part, self._pieces, self._citations = None, [], []

    def _open(self, kind: str, empty: Json) -> None:
        if self._part is not None and self._part["type"] == kind:
            return
        self.block_end()
        self._part = {"type": kind, **empty}
        self.body["content"].append(self._part)
        self._event("response.content_part.added", {"part": self._part})

    def _annotate(self, part: Json, citation: Citation, length: int) -> None:
        annotation = {
            "type": "url_citation",
            "url": citation.source,
            "title": citation.title,
            "start_index": 0,
            "end_index": length,
        }
        members = {"annotation": annotation, "annotation_index": len(part["annotations"])}
        part["annotations"].append(annotation)
        self._event("response.output_text.annotation.added", members)

    def _event(self, kind: str, members: Json) -> None:
        self._send(kind, {"item_id": self.body["id"], "content_index": len(self.body["content"]) - 1, **members})


class Reasoning(Item):
    """A reasoning item. Its summary has one part for each thinking block with text.

    `encrypted_content` has all signed and redacted blocks. The client must send it back in the next turn.
    """

    def __init__(self, send: Send) -> None:
        own_id = f"{responses_reasoning.ID}{uuid.uuid4().hex}"
        super().__init__({"id": own_id, "type": "reasoning", "summary": []}, send)
        self._pieces: list[str] = []
        self._blocks: list[dict[str, str]] = []

    def thinking(self, piece: str) -> None:
        if not self._pieces:
            part = {"type": "summary_text", "text": ""}
            self.body["summary"].append(part)
            self._event("response.reasoning_summary_part.added", {"part": part})
        self._pieces.append(piece)
        self._event("response.reasoning_summary_text.delta", {"delta": piece})

    def signature(self, value: str) -> None:
        self._blocks.append({"thinking": "".join(self._pieces), "signature": value})

    def redacted(self, data: str) -> None:
        self.block_end()
        self._blocks.append({"data": data})

    def block_end(self) -> None:
        if not self._pieces:
            return
        part = self.body["summary"][-1]
        part["text"], self._pieces = "".join(self._pieces), []
        self._event("response.reasoning_summary_text.done", {"text": part["text"]})
        self._event("response.reasoning_summary_part.done", {"part": part})

    def _finish(self, _status: str) -> None:
        """Write `encrypted_content`. The status is ignored, because OpenAI's reasoning items have none."""
        if self._blocks:
            self.body["encrypted_content"] = responses_reasoning.packed(self._blocks)

    def _event(self, kind: str, members: Json) -> None:
        self._send(kind, {"item_id": self.body["id"], "summary_index": len(self.body["summary"]) - 1, **members})


class Call(Item):
    """A call of a function, a custom tool or the local shell, in the form of the tool that the client offered."""

    def __init__(self, call_id: str, origin: Origin, send: Send) -> None:
        self._kind = origin.kind
        self._pieces: list[str] = []
        body: Json = {"id": new_id(_PREFIXES[origin.kind]), "call_id": call_id, "status": IN_PROGRESS}
        if origin.kind == LOCAL_SHELL:
            body |= {"type": "local_shell_call", "action": _action({})}
        elif origin.kind == CUSTOM:
            body |= {"type": "custom_tool_call", "name": origin.name, "input": ""}
        else:
            body |= {"type": "function_call", "name": origin.name, "arguments": ""}
        if origin.namespace:
            body["namespace"] = origin.namespace
        super().__init__(body, send)

    def arguments(self, fragment: str) -> None:
        """Add a piece of the arguments (JSON text).

        For a function, the piece is also sent at once. For a custom tool or the local shell, nothing is sent yet,
        because the client gets a value from inside the complete JSON.
        """
        self._pieces.append(fragment)
        if self._kind == FUNCTION:
            self._event("response.function_call_arguments.delta", {"delta": fragment})

    def _finish(self, status: str) -> None:
        """End the tool call. Its status is `incomplete` if the arguments are not a JSON object."""
        if self._kind == FUNCTION and not self._pieces:
            self.arguments("{}")
        text = "".join(self._pieces)
        given = _as_object(text)
        self.body["status"] = INCOMPLETE if given is None else status
        if self._kind == FUNCTION:
            self.body["arguments"] = text
            self._event("response.function_call_arguments.done", {"arguments": text, "name": self.body["name"]})
        elif self._kind == CUSTOM:
            self._finish_input(custom_tools.input_of(text) if text else "")
        else:
            self.body["action"] = _action(given or {})

    def _finish_input(self, value: str) -> None:
        self.body["input"] = value
        if value:
            self._event("response.custom_tool_call_input.delta", {"delta": value})
        self._event("response.custom_tool_call_input.done", {"input": value})

    def _event(self, kind: str, members: Json) -> None:
        self._send(kind, {"item_id": self.body["id"], **members})


_PREFIXES: Final[Mapping[str, str]] = {FUNCTION: "fc", CUSTOM: "ctc", LOCAL_SHELL: "lsh"}


def _as_object(text: str) -> Json | None:
    """Return the arguments as an object, or None if the text is not a JSON object."""
    try:
        value = lenient_json.loads(text or "{}")
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _action(given: Mapping[str, Any]) -> Json:
    """Return the field `action` of a local shell call. `given` are the arguments that the model wrote.

    In `action`, the command is a list of words. If the model wrote the command as a single string, the list is `sh -c`
    with this string.
    """
    command, env = given.get("command"), given.get("env")
    if isinstance(command, str):
        command = ["sh", "-c", command]
    words = [str(word) for word in command] if isinstance(command, list) else []
    pairs = {str(name): str(value) for name, value in env.items()} if isinstance(env, dict) else {}
    action: Json = {"type": "exec", "command": words, "env": pairs}
    if isinstance(given.get("working_directory"), str):
        action["working_directory"] = given["working_directory"]
    if type(given.get("timeout_ms")) is int:
        action["timeout_ms"] = given["timeout_ms"]
    return action
