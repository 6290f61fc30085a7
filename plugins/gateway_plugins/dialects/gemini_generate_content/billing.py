"""Finds what makes a generateContent request cost more than its text: files, several candidates, and searches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from gateway.contract import billing
from gateway.contract.billing import TOOL_INSTRUCTIONS, Answers, BilledPart, File, FileForms, Search
from gateway_plugins.shared.lenient import mapping, positive

_SEARCHES: Final = ("googleSearch", "google_search")
"""Prefixes of the names of Google's tools that search the web."""


def _blob(blob: Any) -> Iterator[File]:
    """Yield the file in `blob`, the value of a part's `inlineData` or `fileData`."""
    data = mapping(blob)
    kind = billing.kind_of(str(data.get("mimeType") or data.get("mime_type")))
    if isinstance(data.get("data"), str) or data.get("fileUri") or data.get("file_uri"):
        yield File(kind, billing.length(data.get("data")))


def _content_of(block: Mapping[str, Any]) -> Iterable[Any]:
    """Return the lists of parts in an object: the parts of a content, and the parts of a function response."""
    response = mapping(block.get("functionResponse") or block.get("function_response"))
    return block.get("parts"), response.get("parts")


FORMS: Final = FileForms(
    turns=("contents", "systemInstruction", "system_instruction"),
    members=dict.fromkeys(("inlineData", "inline_data", "fileData", "file_data"), _blob),
    inner=_content_of,
)


@billing.lazy
def billed_parts(body: Mapping[str, Any]) -> Iterator[BilledPart]:
    yield from FORMS.files(body)
    config = mapping(body.get("generationConfig") or body.get("generation_config"))
    if answers := positive(config.get("candidateCount") or config.get("candidate_count")):
        yield Answers(answers)
    tools = billing.tools_of(body)
    for tool in tools:
        if any(name.startswith(_SEARCHES) for name in tool):
            yield Search()
    if tools:
        yield TOOL_INSTRUCTIONS
