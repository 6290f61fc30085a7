"""Finds what makes a request to OpenAI cost more than its text: files, several choices (`n`), and OpenAI's tools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from gateway.contract import billing
from gateway.contract.billing import SEARCHES, TOOL_INSTRUCTIONS, Answers, BilledPart, Fee, File, FileForms, Search
from gateway.contract.result_values import MAX_COUNT
from gateway_plugins.shared.lenient import positive

_STORED: Final = ("previous_response_id", "conversation")
"""Fields of a Responses request that name a conversation stored by the provider."""
_FEES: Final[Mapping[str, int]] = {
    "code_interpreter": 30_000_000,
    "file_search": 2_500_000,
    "image_generation": 250_000_000,
}
"""Fees of OpenAI's tools in nanodollars: for one container, one file search, and the most expensive image of
gpt-image-1 (platform.openai.com/docs/pricing)."""


def _image(block: Mapping[str, Any]) -> Iterator[File]:
    return billing.linked("image", block.get("image_url") or block.get("file_id"), block)


def _generated(block: Mapping[str, Any]) -> Iterator[File]:
    yield File("image", billing.length(block.get("result")))


def _content_of(block: Mapping[str, Any]) -> Iterable[Any]:
    """Return the fields of a message or tool result that may have files inside. A missing field is None."""
    return block.get("content"), block.get("output")


FORMS: Final = FileForms(
    turns=("messages", "input", "system"),
    types={
        **billing.COMMON.types,
        "input_image": _image,
        "computer_screenshot": _image,
        "input_file": lambda block: billing.linked("document", block.get("file"), block),
        "image_generation_call": _generated,
    },
    inner=_content_of,
)


@billing.lazy
def billed_parts(body: Mapping[str, Any]) -> Iterator[BilledPart]:
    yield from FORMS.files(body)
    if any(body.get(name) for name in _STORED):
        yield File("document")
    if answers := positive(body.get("n")):
        yield Answers(answers)
    if body.get("web_search_options") is not None:
        yield Search(1)
    yield from _of_tools(body)


def _of_tools(body: Mapping[str, Any]) -> Iterator[BilledPart]:
    limit = positive(body.get("max_tool_calls"), SEARCHES)
    tools = billing.tools_of(body)
    for tool in tools:
        kind = str(tool.get("type"))
        if kind.startswith("web_search"):
            yield Search(limit)
        elif kind in _FEES:
            yield Fee(min(_FEES[kind] * (limit if kind == "file_search" else 1), MAX_COUNT))
    if tools:
        yield TOOL_INSTRUCTIONS
