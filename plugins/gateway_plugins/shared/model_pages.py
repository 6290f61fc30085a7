"""Reading of providers' lists of models, for the hook `discover_models`. The paths and members of a list belong to its
API, and stand in the API's own files.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from gateway.contract import json_api
from gateway.contract.errors import BadFrame
from gateway.contract.flag import StepResponse, UpstreamRequest

Page = tuple[list[dict[str, Any]], dict[str, Any]]
"""The entries of a page, and the whole page."""
Pages = Generator[UpstreamRequest, StepResponse, Page]

PER_PAGE: Final = 1000
"""Number of entries for which a page is asked: the maximum at Amazon Bedrock, Anthropic and Google."""


def page(path: str, member: str, query: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Pages:
    """Ask for a page. Return the objects in its list `member`, and the whole page. Parameters without value are left
    out.

    Raises `BadFrame` if the reply has no such list.
    """
    # a signature covers the query, in which a space must not be written as "+"
    parameters = urlencode({name: value for name, value in query.items() if value}, quote_via=quote)
    reply = yield UpstreamRequest("GET", path, b"", parameters, headers or {})
    body = json_api.json_object(reply.body)
    entries = body.get(member)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadFrame(f"the reply to GET {path} has no list of objects in {member}")
    return entries, body
