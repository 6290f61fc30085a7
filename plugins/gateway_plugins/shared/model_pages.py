"""Reads the pages of a provider's list of models, for the hook `discover_models`.

The path of the list and the fields of an entry are defined by the plugin of each API.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from gateway.contract import json_api
from gateway.contract.errors import BadFrame
from gateway.contract.flag import StepResponse, UpstreamRequest

Page = tuple[list[dict[str, Any]], dict[str, Any]]
"""One page of a list of models: its entries, and the whole reply as a JSON object."""
Pages = Generator[UpstreamRequest, StepResponse, Page]

PER_PAGE: Final = 1000
"""Number of entries to request for a page: the maximum at Amazon Bedrock, Anthropic and Google."""


def page(path: str, member: str, query: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Pages:
    """Yield the request for one page of a list, and receive the reply to this request.

    The generator returns a pair: the list in the reply's field `member`, and the whole reply. Query parameters with the
    value "" are left out. Raises `BadFrame` if the field is no list of objects.
    """
    # a signature covers the query, in which a space must not be written as "+"
    parameters = urlencode({name: value for name, value in query.items() if value}, quote_via=quote)
    reply = yield UpstreamRequest("GET", path, b"", parameters, headers or {})
    body = json_api.json_object(reply.body)
    entries = body.get(member)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadFrame(f"the reply to GET {path} has no list of objects in {member}")
    return entries, body
