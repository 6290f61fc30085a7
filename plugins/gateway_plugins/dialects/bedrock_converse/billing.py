"""The parts of a Converse request that are not billed as text: images, documents, audio, video, web searches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

from gateway.contract import billing
from gateway.contract.billing import TOOL_INSTRUCTIONS, BilledPart, File, FileForms, Search
from gateway_plugins.shared.lenient import mapping

_GROUNDING: Final = "nova_grounding"
"""Name of Nova's tool that searches the web."""


def _reader(kind: Literal["image", "document", "video", "audio"]) -> Callable[[Any], Iterator[File]]:
    """Return a reader of the files in one kind of block.

    A document whose source is `text` or `content` has no file.
    """

    def read(block: Any) -> Iterator[File]:
        source = mapping(mapping(block).get("source"))
        if isinstance(data := source.get("bytes"), str):
            yield File(billing.document(str(block.get("format"))) if kind == "document" else kind, len(data))
        elif "s3Location" in source:
            yield File(kind)

    return read


def wrapped(block: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the values of `toolResult` and `guardContent` in a block. Images and documents may be inside them."""
    return mapping(block.get("toolResult")), mapping(block.get("guardContent"))


FORMS: Final = FileForms(
    turns=("messages", "system"),
    members={
        "image": _reader("image"),
        "document": _reader("document"),
        "video": _reader("video"),
        "audio": _reader("audio"),
    },
    inner=lambda block: (block.get("content"), *wrapped(block)),
)


@billing.lazy
def billed_parts(body: Mapping[str, Any]) -> Iterator[BilledPart]:
    yield from FORMS.files(body)
    yield from of_tools(body)


def of_tools(body: Mapping[str, Any]) -> Iterator[BilledPart]:
    """Yield a `Search` for each of Nova's web search tools in a request.

    If the request has tools of any kind, also yield `TOOL_INSTRUCTIONS`, the text about tools that the provider adds to
    the prompt.
    """
    tools = billing.tools_of(body.get("toolConfig"))
    for tool in tools:
        if mapping(tool.get("systemTool")).get("name") == _GROUNDING:
            yield Search()
    if tools:
        yield TOOL_INSTRUCTIONS
