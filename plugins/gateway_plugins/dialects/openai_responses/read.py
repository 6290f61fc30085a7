"""Readers of `instructions` and `input` in a Responses request. The readers return values of `shared/plain_request.py`.

- The items of one assistant turn, such as reasoning, text and tool calls, become one message.
- A malformed value is refused with a 400 that names the field.
- An item that only another server understands is left out and reported as dropped. A 400 would end a session that was
  resumed with another model (openai/codex#45401).
- An item of an unknown type is left out and reported too. But if the item has content of the user, the request is
  refused, because the model must answer this content.

If the provider is configured with `"on_loss": "refuse"`, the gateway refuses every request with a dropped item.

Tools are in `read_tools.py`, parameters in `read_options.py`. Sources: OpenAI's API reference (Responses, create), the
openai SDK's types of input items, and recorded requests of Codex.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from gateway.contract import lenient_json
from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Members
from gateway_plugins.dialects.openai.read import BREAKPOINT, breakpoint_ttl, refuse_files
from gateway_plugins.dialects.openai_responses import reasoning as responses_reasoning
from gateway_plugins.dialects.openai_responses.names import LOCAL_SHELL, flat
from gateway_plugins.shared import media
from gateway_plugins.shared.checks import arguments, inner_leftovers, list_of, object_of, text_of
from gateway_plugins.shared.fields import member, param
from gateway_plugins.shared.media import Media
from gateway_plugins.shared.plain_request import Call, Message, Part
from gateway_plugins.shared.reasoning import Reasoning
from gateway_plugins.shared.turns import reminder

_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_TEXTS: Final = frozenset({"input_text", "output_text", "text", "refusal"})
_ITEM: Final = frozenset({"type", "id", "status"})
_ADDED: Final = "additional_tools"
"""Type of an item that offers more tools. `read_tools.py` reads these tools."""
_COMPACTED: Final = frozenset({"compaction", "compaction_summary", "context_compaction"})
"""Types of items that summarise earlier turns. Only the server that made such an item can read it."""
_NOTE: Final = "Earlier turns of this conversation were compacted. Their content is not available here."
_OPENAIS_IDS: Final = ("rs_", "ws_", "fs_", "ci_", "ig_", "mcp_", "mcpl_", "mcpr_", "tsc_", "cmp_")
"""Prefixes of the ids of items that only OpenAI's servers understand. These items are left out of a translated request,
and references to them are left out too."""


def messages(top: Members, drop: Drop) -> list[Message]:
    """Return the messages. The result of a tool call comes directly after the assistant message with the call."""
    reader = _Items(drop)
    if instructions := text_of(member(top, "instructions"), "/instructions"):
        reader.add(Message("system", "/instructions", [Part("/instructions", instructions)]))
    items = member(top, "input")
    if isinstance(items, str):
        return [*reader.conversation, Message("user", "/input", [Part("/input", items)])]
    if not isinstance(items, list):
        raise invalid("input must be a string or a list of items", "input")
    for index, raw in enumerate(items):
        reader.read(raw, f"/input/{index}")
    return reader.messages()


class _Items(msgspec.Struct):
    """Converts the items of `input` to messages."""

    drop: Drop
    conversation: list[Message] = msgspec.field(default_factory=list)
    _turn: list[Part | Call | Reasoning] = msgspec.field(default_factory=list)
    """Content of the assistant's current turn, as far as it has been read."""
    _results: dict[str, list[Message]] = msgspec.field(default_factory=dict)
    """The list in `_groups` to which the result of a tool call is added, by the id of the call."""
    _groups: dict[int, list[Message]] = msgspec.field(default_factory=dict)
    """Results of the tool calls of an assistant message, by the index of the message in `conversation`."""
    _shells: dict[str, str] = msgspec.field(default_factory=dict)
    """The `call_id` of each local shell call, by the id of the call's item. Some outputs name only the item."""

    def read(self, raw: Any, at: str) -> None:
        if not isinstance(raw, dict):
            raise invalid(f"{param(at)} must be an item, as an object", param(at))
        kind = raw.get("type") or ("message" if "role" in raw else "item_reference" if "id" in raw else "")
        read = _KINDS.get(kind) if isinstance(kind, str) else None
        if read is not None:
            read(self, raw, at)
        elif (
            not isinstance(kind, str) or not kind or ("content" in raw and raw.get("role", "assistant") != "assistant")
        ):
            known = ", ".join(_KINDS)
            raise invalid(f'{param(at)}.type: "{kind}" is not one of {known}', f"{param(at)}.type")
        elif kind != _ADDED:
            self.drop(at)

    def add(self, message: Message) -> None:
        self._close()
        self.conversation.append(message)

    def messages(self) -> list[Message]:
        self._close()
        placed = []
        for index, message in enumerate(self.conversation):
            placed += [message, *self._groups.get(index, ())]
        return placed

    def _close(self) -> None:
        """End the assistant's turn, and add it to the conversation.

        A turn that has only thinking is left out and reported as dropped, because providers refuse it.
        """
        turn, self._turn = self._turn, []
        if all(isinstance(part, Reasoning) for part in turn):
            for part in turn:
                self.drop(part.at)
            return
        results: list[Message] = []
        self._groups[len(self.conversation)] = results
        self._results |= {part.id: results for part in turn if isinstance(part, Call)}
        first = turn[0].at.split("/")
        self.conversation.append(Message("assistant", "/".join(first[:3]), turn))

    def message(self, raw: dict[str, Any], at: str) -> None:
        role = raw.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            field_ = f"{param(at)}.role"
            raise invalid(f'{field_}: "{role}" is not one of {", ".join(_ROLES)}', field_)
        inner_leftovers(raw, _ITEM | {"role", "content"}, at, self.drop)
        content, content_at = raw.get("content"), f"{at}/content"
        if role == "assistant":
            self._turn += _answer(content, content_at, self.drop)
            return
        parts = _parts(content, content_at, self.drop)
        if role != "user":
            refuse_files(parts, role)
        self.add(Message(_ROLES[role], at, parts))

    def compaction(self, _raw: dict[str, Any], at: str) -> None:
        """Replace a compacted history by a note to the model that the earlier turns are not available."""
        self.drop(at)
        self.add(Message("user", at, [Part(at, reminder(_NOTE))]))

    def reasoning(self, raw: dict[str, Any], at: str) -> None:
        """Read a reasoning item, if this gateway wrote its `encrypted_content`.

        Any other reasoning item is reported as dropped, because only the server that made it can use it.
        """
        inner_leftovers(raw, _ITEM | {"summary", "content", "encrypted_content"}, at, self.drop)
        blocks = responses_reasoning.unpacked(text_of(raw.get("encrypted_content"), f"{at}/encrypted_content"))
        if blocks is None:
            self.drop(at)
        for block in blocks or ():
            text, signature, data = (block.get(name, "") for name in ("thinking", "signature", "data"))
            self._turn.append(Reasoning(at, text, signature, data))

    def function_call(self, raw: dict[str, Any], at: str) -> None:
        inner_leftovers(raw, _ITEM | {"call_id", "name", "namespace", "arguments"}, at, self.drop)
        self._call(raw, at, arguments(text_of(raw.get("arguments"), f"{at}/arguments")))

    def custom_tool_call(self, raw: dict[str, Any], at: str) -> None:
        inner_leftovers(raw, _ITEM | {"call_id", "name", "namespace", "input"}, at, self.drop)
        self._call(raw, at, {"input": text_of(raw.get("input"), f"{at}/input")})

    def local_shell_call(self, raw: dict[str, Any], at: str) -> None:
        action = object_of(raw.get("action"), f"{at}/action")
        input_ = {name: value for name, value in action.items() if name != "type" and value is not None}
        self._call({**raw, "name": LOCAL_SHELL}, at, arguments(input_))
        self._shells[text_of(raw.get("id"), f"{at}/id")] = _required(raw, "call_id", at)

    def client_call(self, raw: dict[str, Any], at: str) -> None:
        """Read a call of one of the tools that OpenAI defines and the client runs: shell, patches, computer."""
        kind = raw["type"]
        name, inner = kind.removesuffix("_call"), _CLIENT_CALLS[kind]
        given: Any = next((raw[member] for member in inner if raw.get(member) is not None), {})
        input_ = given if isinstance(given, dict) else {inner[-1]: given}
        input_ = {name: value for name, value in input_.items() if value is not None}
        self._call({**raw, "name": name}, at, arguments(input_))

    def client_output(self, raw: dict[str, Any], at: str) -> None:
        """Read the output for a call that `client_call` reads: a text, a list of shell outputs, or a screenshot."""
        output = raw.get("output")
        if isinstance(output, list):
            output = lenient_json.dumps(output).decode()
        elif isinstance(output, dict) and not output.get("image_url"):
            self.drop(f"{at}/output")
            output = None
        self._result(
            _required(raw, "call_id", at), {"output": output or text_of(raw.get("status"), f"{at}/status")}, at
        )

    def _call(self, raw: dict[str, Any], at: str, input_: dict[str, Any]) -> None:
        name = flat(text_of(raw.get("namespace"), f"{at}/namespace"), _required(raw, "name", at))
        self._turn.append(Call(at, _required(raw, "call_id", at), name, input_))

    def output(self, raw: dict[str, Any], at: str) -> None:
        inner_leftovers(raw, _ITEM | {"call_id", "output", "name", "namespace"}, at, self.drop)
        self._result(_required(raw, "call_id", at), raw, at)

    def local_shell_output(self, raw: dict[str, Any], at: str) -> None:
        call_id = text_of(raw.get("call_id") or raw.get("id"), f"{at}/id")
        self._result(self._shells.get(call_id, call_id), raw, at)

    def _result(self, call_id: str, raw: dict[str, Any], at: str) -> None:
        self._close()
        group = self._results.get(call_id)
        if group is None:
            field_ = f"{param(at)}.call_id"
            raise invalid(f'{field_}: "{call_id}" answers no call that stands before it in the input', field_)
        output = raw.get("output")
        parts = _parts([output] if isinstance(output, dict) else output, f"{at}/output", self.drop)
        group.append(Message("tool", at, parts, call_id=call_id, call_at=f"{at}/call_id"))

    def reference(self, raw: dict[str, Any], at: str) -> None:
        """Read an item that only refers to another item by its id. The gateway stores no items.

        If the id shows that the other item would be left out anyway (`_OPENAIS_IDS`), the reference is reported as
        dropped. Raises `Refused` for any other id, because a part of the conversation would be lost.
        """
        if str(raw.get("id")).startswith(_OPENAIS_IDS):
            self.drop(at)
            return
        message = 'no items are stored here; send the item itself, not its id, as clients do under "store": false'
        raise invalid(f"{param(at)}: {message}", param(at))

    def refuse_trigger(self, _raw: dict[str, Any], at: str) -> None:
        raise invalid(f"{param(at)}: conversations are not compacted here; ask the model for a summary", param(at))

    def configuration(self, raw: dict[str, Any], at: str) -> None:
        """Read a change of settings within the conversation. A change of the effort is reported as dropped.

        Raises `Refused` for a change of the answer's format, because the client relies on the format.
        """
        form = object_of(object_of(raw.get("text"), f"{at}/text").get("format"), f"{at}/text/format")
        if form.get("type") not in (None, "text"):
            raise invalid(f"{param(at)}.text.format: send it as text.format of the request", f"{param(at)}.text.format")
        self.drop(at)


_CLIENT_CALLS: Final[Mapping[str, tuple[str, ...]]] = {
    # type: fields that have the arguments; the first that is set counts
    "shell_call": ("action",),
    "apply_patch_call": ("operation",),
    "computer_call": ("action", "actions"),
}
_KINDS: Final[Mapping[str, Callable[[_Items, dict[str, Any], str], None]]] = {
    "message": _Items.message,
    "reasoning": _Items.reasoning,
    "function_call": _Items.function_call,
    "function_call_output": _Items.output,
    "custom_tool_call": _Items.custom_tool_call,
    "custom_tool_call_output": _Items.output,
    "local_shell_call": _Items.local_shell_call,
    "local_shell_call_output": _Items.local_shell_output,
    "item_reference": _Items.reference,
    "compaction_trigger": _Items.refuse_trigger,
    "configuration_update": _Items.configuration,
    **dict.fromkeys(_COMPACTED, _Items.compaction),
    **dict.fromkeys(_CLIENT_CALLS, _Items.client_call),
    **{f"{kind}_output": _Items.client_output for kind in _CLIENT_CALLS},
}


def _required(raw: Mapping[str, Any], name: str, at: str) -> str:
    value = raw.get(name)
    if not isinstance(value, str) or not value:
        field_ = f"{param(at)}.{name}"
        raise invalid(f"{field_} must be a string, and not empty", field_)
    return value


def _parts(content: Any, at: str, drop: Drop) -> list[Part]:
    """Return the content as parts. Blank texts are kept."""
    if isinstance(content, str):
        return [Part(at, content)]
    return [_part(raw, f"{at}/{index}", drop) for index, raw in enumerate(list_of(content, at))]


def _answer(content: Any, at: str, drop: Drop) -> list[Part]:
    """Return the texts of an assistant message. Any other part, such as a picture that the model made, is reported as
    dropped.
    """
    if not isinstance(content, list):
        return _parts(content, at, drop)
    parts = []
    for index, raw in enumerate(content):
        if isinstance(raw, dict) and str(raw.get("type")) not in _TEXTS:
            drop(f"{at}/{index}")
        else:
            parts.append(_part(raw, f"{at}/{index}", drop))
    return parts


def _part(raw: Any, at: str, drop: Drop) -> Part:
    kind = str(raw.get("type")) if isinstance(raw, dict) else ""
    if kind in _TEXTS:
        name = "refusal" if kind == "refusal" else "text"
        inner_leftovers(raw, {"type", name, "logprobs", BREAKPOINT}, at, drop)
        return Part(at, text_of(raw.get(name), f"{at}/{name}"), ttl=breakpoint_ttl(raw, at, drop), mark=BREAKPOINT)
    read = _FILES.get(kind)
    if read is None:
        known = ", ".join(("input_text", "output_text", "refusal", *_FILES))
        raise invalid(f'{param(at)}.type: "{kind}" is not one of {known}', f"{param(at)}.type")
    return Part(at, media=read(raw, at, drop), ttl=breakpoint_ttl(raw, at, drop), mark=BREAKPOINT)


def _image(raw: dict[str, Any], at: str, drop: Drop) -> Media:
    inner_leftovers(raw, {"type", "image_url", "detail", "file_id", BREAKPOINT}, at, drop)
    if raw.get("detail") not in (None, "auto"):
        drop(f"{at}/detail")
    url = text_of(raw.get("image_url"), f"{at}/image_url")
    if not url:
        raise _absent(f"{param(at)}.image_url", "image")
    return media.image(url, f"{param(at)}.image_url")


def _file(raw: dict[str, Any], at: str, drop: Drop) -> Media:
    inner_leftovers(raw, {"type", "file_data", "filename", "file_id", "file_url", "detail", BREAKPOINT}, at, drop)
    if raw.get("detail") not in (None, "auto"):
        drop(f"{at}/detail")
    data = text_of(raw.get("file_data"), f"{at}/file_data")
    if not data:
        raise _absent(f"{param(at)}.file_data", "file")
    return media.document(data, text_of(raw.get("filename"), f"{at}/filename"), f"{param(at)}.file_data")


def _audio(raw: dict[str, Any], at: str, _drop: Drop) -> Media:
    inner = object_of(raw.get("input_audio"), f"{at}/input_audio")
    data = text_of(inner.get("data"), f"{at}/input_audio/data")
    return media.audio(data, str(inner.get("format")), f"{param(at)}.input_audio")


_FILES: Final[Mapping[str, Callable[[dict[str, Any], str, Drop], Media]]] = {
    "input_image": _image,
    "computer_screenshot": _image,
    "input_file": _file,
    "input_audio": _audio,
}


def _absent(field_: str, what: str) -> Exception:
    return invalid(f"{field_}: send the {what} itself, as a data: URL, or its http(s) URL; no files are stored", field_)
