"""The items of a Responses reply while they grow: message, reasoning and the three kinds of call, with their events.

An item tells its events by `say(kind, members)` and is in the end what stands in the response's `output`, so that a
stream and a whole reply are made by the same code. Ids of items are ours: no provider has any. Which item a piece
belongs to, and the events of the response itself, are in `emit.py`. Source: the openai SDK's types of
items and stream events.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from gateway_plugins.dialects.openai_responses import reasoning as responses_reasoning
from gateway_plugins.dialects.openai_responses.names import CUSTOM, FUNCTION, LOCAL_SHELL, Origin
from gateway_plugins.shared.reply_events import Citation

Json = dict[str, Any]
Say = Callable[[str, Json], None]
"""Takes an event's type and its members, but for those that every event of the item has."""

IN_PROGRESS: Final = "in_progress"
COMPLETED: Final = "completed"
INCOMPLETE: Final = "incomplete"


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"


class Item:
    """What all items have: `body` is the item as the client gets it."""

    def __init__(self, body: Json, say: Say) -> None:
        self.body = body
        self._say = say

    def begin(self) -> None:
        self._say("response.output_item.added", {"item": self.body})

    def block_end(self) -> None:
        """A block of the provider's is over; more may come for the same item."""

    def end(self, status: str) -> None:
        self.block_end()
        self._finish(status)
        self._say("response.output_item.done", {"item": self.body})

    def _finish(self, status: str) -> None:
        self.body["status"] = status


class Message(Item):
    """The assistant's text: a part for each block, or for each run of a refusal."""

    def __init__(self, say: Say) -> None:
        body = {"id": new_id("msg"), "type": "message", "status": IN_PROGRESS, "role": "assistant", "content": []}
        super().__init__(body, say)
        self._part: Json | None = None
        self._pieces: list[str] = []
        self._citations: list[Citation] = []

    def text(self, piece: str) -> None:
        self._open("output_text", {"text": "", "annotations": [], "logprobs": []})
        self._pieces.append(piece)
        self._tell("response.output_text.delta", {"delta": piece, "logprobs": []})

    def refusal(self, piece: str) -> None:
        self._open("refusal", {"refusal": ""})
        self._pieces.append(piece)
        self._tell("response.refusal.delta", {"delta": piece})

    def citation(self, citation: Citation) -> None:
        """Told when the text that it belongs to is complete: its range is in it."""
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
            self._tell("response.output_text.done", {"text": text, "logprobs": []})
        else:
            self._tell("response.refusal.done", {"refusal": text})
        self._tell("response.content_part.done", {"part": part})
        self._part, self._pieces, self._citations = None, [], []

    def _open(self, kind: str, empty: Json) -> None:
        if self._part is not None and self._part["type"] == kind:
            return
        self.block_end()
        self._part = {"type": kind, **empty}
        self.body["content"].append(self._part)
        self._tell("response.content_part.added", {"part": self._part})

    def _annotate(self, part: Json, citation: Citation, length: int) -> None:
        annotation = {
            "type": "url_citation",
            "url": citation.source,
            "title": citation.title,
            "start_index": 0,
            "end_index": length,
        }
        told = {"annotation": annotation, "annotation_index": len(part["annotations"])}
        part["annotations"].append(annotation)
        self._tell("response.output_text.annotation.added", told)

    def _tell(self, kind: str, members: Json) -> None:
        self._say(kind, {"item_id": self.body["id"], "content_index": len(self.body["content"]) - 1, **members})


class Reasoning(Item):
    """Thinking: a summary part for each block with text, and all that must come back in `encrypted_content`."""

    def __init__(self, say: Say) -> None:
        super().__init__({"id": new_id("rs"), "type": "reasoning", "summary": []}, say)
        self._pieces: list[str] = []
        self._blocks: list[dict[str, str]] = []

    def thinking(self, piece: str) -> None:
        if not self._pieces:
            part = {"type": "summary_text", "text": ""}
            self.body["summary"].append(part)
            self._tell("response.reasoning_summary_part.added", {"part": part})
        self._pieces.append(piece)
        self._tell("response.reasoning_summary_text.delta", {"delta": piece})

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
        self._tell("response.reasoning_summary_text.done", {"text": part["text"]})
        self._tell("response.reasoning_summary_part.done", {"part": part})

    def _finish(self, status: str) -> None:
        _ = status  # OpenAI's own have none
        if self._blocks:
            self.body["encrypted_content"] = responses_reasoning.packed(self._blocks)

    def _tell(self, kind: str, members: Json) -> None:
        self._say(kind, {"item_id": self.body["id"], "summary_index": len(self.body["summary"]) - 1, **members})


class Call(Item):
    """A call in the form in which the client offered the tool: of a function, a custom tool or the local shell."""

    def __init__(self, call_id: str, origin: Origin, say: Say) -> None:
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
        super().__init__(body, say)

    def arguments(self, fragment: str) -> None:
        """A function's go out as they come; those of the others hold what the client wants inside of JSON."""
        self._pieces.append(fragment)
        if self._kind == FUNCTION:
            self._tell("response.function_call_arguments.delta", {"delta": fragment})

    def _finish(self, status: str) -> None:
        """Arguments that were cut off are told as they are, and the call as incomplete."""
        if self._kind == FUNCTION and not self._pieces:
            self.arguments("{}")
        text = "".join(self._pieces)
        given = _loaded(text)
        self.body["status"] = INCOMPLETE if given is None else status
        if self._kind == FUNCTION:
            self.body["arguments"] = text
            self._tell("response.function_call_arguments.done", {"arguments": text, "name": self.body["name"]})
        elif self._kind == CUSTOM:
            self._finish_input(given, text)
        else:
            self.body["action"] = _action(given or {})

    def _finish_input(self, given: Mapping[str, Any] | None, text: str) -> None:
        inner = (given or {}).get("input")
        self.body["input"] = said = inner if isinstance(inner, str) else text
        if said:
            self._tell("response.custom_tool_call_input.delta", {"delta": said})
        self._tell("response.custom_tool_call_input.done", {"input": said})

    def _tell(self, kind: str, members: Json) -> None:
        self._say(kind, {"item_id": self.body["id"], **members})


_PREFIXES: Final[Mapping[str, str]] = {FUNCTION: "fc", CUSTOM: "ctc", LOCAL_SHELL: "lsh"}


def _loaded(text: str) -> Json | None:
    """The object that arguments are; None if they are none."""
    try:
        value = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _action(given: Mapping[str, Any]) -> Json:
    """What the local shell is to do; a command in one string is one for the shell."""
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
