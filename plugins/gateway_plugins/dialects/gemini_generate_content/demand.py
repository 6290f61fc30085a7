"""Builds the contents of a request that is translated to generateContent, so that Gemini accepts them.

The translation adds the client's messages to a `Conversation`, in order and with the client's tool ids.
`Conversation` makes the fields `systemInstruction` and `contents`. The rules are the same for all clients' dialects.
They depend on the model only through its capabilities (`Caps`) and its generation (`models.py`). Functions and
parameters are in `options.py`.

Sources: Google's API reference (GenerateContent), and the issues of other projects that the docstrings name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop, Target
from gateway_plugins.dialects.gemini_generate_content.model_turn import ModelTurn
from gateway_plugins.dialects.gemini_generate_content.models import generation
from gateway_plugins.shared.conversation import Piece
from gateway_plugins.shared.media import Media
from gateway_plugins.shared.reasoning import Maker
from gateway_plugins.shared.tools import ToolIds
from gateway_plugins.shared.turns import CONTINUE, NO_OUTPUT, NO_RESULT, Block, frame_document, reminder

FILLER: Final = "."
"""Text of the user turn that the gateway adds before a conversation if its first turn is the assistant's.

Gemini refuses a conversation that begins with a function call."""
ATTACHED: Final = "(the files of this result follow in the next message)"
_FILE_OF_NAME: Final = 'The file "{}":'
"""Text with the name of a file. It is put before the file, because the API has no field for the name."""
_FILES_OF: Final = "The files of the result of {}:"
_TEXTS: Final = frozenset({"txt", "md", "csv", "html"})
_OFFICE: Final = frozenset({"doc", "docx", "xls", "xlsx"})
"""Formats of documents that Gemini does not read (Gemini API, Document understanding)."""
_MP3: Final = "audio/mp3"
"""Gemini's name for the type `audio/mpeg`."""
_IN_RESULTS: Final = frozenset({"image/png", "image/jpeg", "image/webp", "application/pdf"})
"""Types of files that a function response may have (Gemini API, Multimodal function responses)."""


def text(value: str) -> Block:
    return {"text": value}


def is_blank(part: Block) -> bool:
    return "text" in part and not part["text"].strip()


def media_part(media: Media, caps: Caps, field: str) -> Block:
    """Return a file as a part. Raises `Refused`, naming `field`, if the model cannot read the file.

    A text document becomes a text part that begins with the document's name.
    """
    offered = {"image": caps.images, "document": caps.documents, "audio": True}
    if not offered[media.kind]:
        raise invalid(f"{field}: this model takes no {media.kind}s", field)
    if media.format in _OFFICE:
        raise invalid(f"{field}: this model takes no {media.format} files; send a PDF or text", field)
    if media.format in _TEXTS:
        return document_text(media, field)
    mime = _MP3 if media.format == "mp3" else media.mime
    return {"inlineData": {"mimeType": mime, "data": media.base64}}


def document_text(media: Media, field: str) -> Block:
    try:
        content = media.data.decode()
    except UnicodeDecodeError:
        raise invalid(f"{field}: the text is not UTF-8", field) from None
    return text(frame_document(content, media.name))


class Conversation:
    """Builds `systemInstruction` and `contents`. Messages must be added in the client's order."""

    def __init__(self, target: Target, drop: Drop) -> None:
        self._caps = target.caps
        self._maker = Maker.of(target)
        self._drop = drop
        self._result_files = target.caps.tool_result_images and generation(target.model).result_files
        self._ids = ToolIds(target.caps.tool_id_alphanumeric, target.caps.own_tool_ids)
        self._names: dict[str, str] = {}
        """Names of the called functions, by the provider's ids of the calls, in the order of the calls."""
        self._system: list[str] = []
        self._contents: list[Block] = []
        self._assistant_at = ""
        """JSON pointer of the assistant's last turn."""
        self._results: list[Block] = []
        """Results since the assistant's last turn. Each has the keys `id`, `content` and `is_error`."""
        self._others: list[Block] = []
        """Other parts of the user since the assistant's last turn. They come after the results."""

    def text(self, value: str) -> Block:
        return text(value)

    def file(self, media: Media, field: str) -> list[Block]:
        part = media_part(media, self._caps, field)
        named = media.name.strip() and "inlineData" in part
        return [text(_FILE_OF_NAME.format(media.name.strip())), part] if named else [part]

    def system(self, value: str) -> None:
        """Add a system text.

        If the conversation has begun, or if the model accepts no system instruction, the text is added as text of the
        user.
        """
        if not value.strip():
            return
        if self._contents or self._results or self._others:
            self._others.append(text(reminder(value)))
        elif self._caps.system:
            self._system.append(value)
        else:
            self._others.append(text(value))

    def hint(self, value: str) -> None:
        """Add an instruction from the gateway to the system instruction. "" adds nothing.

        For a model without system instructions, the instruction is added as text of the user.
        """
        if value and self._caps.system:
            self._system.append(value)
        elif value:
            self._others.append(text(value))

    def user(self, parts: Sequence[Block]) -> None:
        self._others += [part for part in parts if not is_blank(part)]

    def assistant(self, pieces: Sequence[Piece], at: str) -> None:
        """Add an assistant turn.

        Consecutive assistant turns become one content, so that all function calls come before all results.
        """
        turn = ModelTurn(self._maker, self._drop)
        turn.add(pieces)
        turn.report()
        if turn.is_empty:
            return
        content = self._model_content()
        self._assistant_at = at
        for part in turn.parts:
            if call := part.get("functionCall"):
                call["id"] = self._ids.call(call["id"] or f"{at}#{call['name']}")
                self._names[call["id"]] = call["name"]
        content["parts"] += turn.parts

    def _model_content(self) -> Block:
        if self._contents and self._contents[-1]["role"] == "model" and not (self._results or self._others):
            return self._contents[-1]
        self._flush()
        if not self._contents:
            self._contents.append({"role": "user", "parts": [text(FILLER)]})
        self._contents.append({"role": "model", "parts": []})
        return self._contents[-1]

    def result(self, call_id: str, parts: Sequence[Block], at: str, *, is_error: bool = False) -> None:
        """Add the result of a function call. Raises `Refused` if the last assistant turn has no call `call_id`.

        `at` is the JSON pointer of the client's field with this id. `is_error` is true if the call failed.
        """
        content = [part for part in parts if not is_blank(part)]
        made: Block = {"id": call_id, "content": content, "is_error": is_error}
        if self._ids.answer(made, "id", at):
            self._results.append(made)

    def members(self) -> Block:
        """Return `contents`, and `systemInstruction` if there is any.

        - A function call without a result gets an error as its result.
        - If there are no contents, a user's content is added.
        - If the last turn is the assistant's and the model cannot continue it, a user's content is added, and the
          assistant's turn is reported as dropped, although it is sent.
        """
        self._flush()
        trailing = self._contents and self._contents[-1]["role"] == "model" and not self._caps.prefill
        if trailing:
            self._drop(self._assistant_at)
        if trailing or not self._contents:
            self._contents.append({"role": "user", "parts": [text(CONTINUE)]})
        for content in self._contents:
            self._sign(content["parts"])
        system = {"systemInstruction": {"parts": list(map(text, self._system))}} if self._system else {}
        return system | {"contents": self._contents}

    def _sign(self, parts: Sequence[Block]) -> None:
        """Add the placeholder signature `Caps.call_signature` to the first function call if it has no signature."""
        call = next((part for part in parts if "functionCall" in part), None)
        if call is not None and self._caps.call_signature:
            call.setdefault("thoughtSignature", self._caps.call_signature)

    def _flush(self) -> None:
        """Append to `_contents` what came after the last assistant turn: one content with the function results, and
        one with the results' files and all other parts.

        Gemini refuses other parts beside function results (cloudwego/eino-ext#571).
        """
        missing: list[Block] = [
            {"id": made, "content": [text(NO_RESULT)], "is_error": True} for made in self._ids.unanswered()
        ]
        order = list(self._names)
        results = sorted([*self._results, *missing], key=lambda result: order.index(result["id"]))
        files: list[Block] = []
        parts = [self._function_response(result, files) for result in results]
        if parts:
            self._contents.append({"role": "user", "parts": parts})
        if others := files + self._others:
            self._contents.append({"role": "user", "parts": others})
        self._results, self._others, self._names = [], [], {}
        self._ids.assistant_turn()

    def _function_response(self, result: Block, beside: list[Block]) -> Block:
        """Return the part with a function response.

        - Files that are not allowed in a function response are added to `beside`, after a text with the function's
          name.
        - JSON output is sent as text, because Gemini would interpret a field `$ref` in it (vercel/ai#14369).
        """
        name = self._names[result["id"]]
        content = result["content"]
        texts = [part["text"] for part in content if "text" in part]
        files = [part for part in content if "text" not in part]
        inside = [part for part in files if self._result_files and part["inlineData"]["mimeType"] in _IN_RESULTS]
        outside = [part for part in files if part not in inside]
        if outside:
            beside += [text(_FILES_OF.format(name)), *outside]
            texts.append(ATTACHED)
        output = "\n".join(texts) or NO_OUTPUT
        response: Block = {"error" if result["is_error"] else "output": output}
        made: Block = {"id": result["id"], "name": name, "response": response}
        return {"functionResponse": made | ({"parts": inside} if inside else {})}
