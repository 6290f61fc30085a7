"""The parts of a Messages request that are not billed as text: images, documents, and web searches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.contract import billing
from gateway.contract.billing import SEARCHES, TOOL_INSTRUCTIONS, BilledPart, Search
from gateway_plugins.shared.lenient import positive


@billing.lazy
def billed_parts(body: Mapping[str, Any]) -> Iterator[BilledPart]:
    yield from billing.COMMON.files(body)
    yield from of_tools(body)


def of_tools(holder: Any) -> Iterator[BilledPart]:
    """Yield a `Search` for each web tool in the field `tools` of the object `holder`.

    `Search.most` is the tool's `max_uses`, or `SEARCHES` if the client sets no maximum. If `tools` has tools of any
    kind, also yield `TOOL_INSTRUCTIONS`, the text about tools that the provider adds to the prompt.
    """
    tools = billing.tools_of(holder)
    for tool in tools:
        kind = str(tool.get("type"))
        if kind.startswith(("web_search", "web_fetch")):
            yield Search(positive(tool.get("max_uses"), SEARCHES), is_paid=kind.startswith("web_search"))
    if tools:
        yield TOOL_INSTRUCTIONS
