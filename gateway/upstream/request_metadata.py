"""Metadata about the caller that Bedrock writes into its logs of model invocations.

The metadata is a header of the request, as Bedrock's InvokeModel expects it. Bedrock's Converse expects the metadata in
the body. The plugin of that API moves it there.

Source: botocore's service model of bedrock-runtime (`RequestMetadata`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import orjson

from gateway.contract.flag import ClientRequest
from gateway.upstream.subjects import Subject, filled, fitting

HEADER: Final = "x-amzn-bedrock-request-metadata"
MAX_ENTRIES: Final = 16
"""Maximum number of metadata entries that Bedrock accepts in a request."""
_NOT_IN_VALUE: Final = re.compile(r"[^a-zA-Z0-9\s:_@$#=/+,.-]", re.ASCII)
_LENGTHS: Final = range(257)
"""Lengths in characters that Bedrock accepts for a value."""


def with_metadata(request: ClientRequest, entries: Iterable[tuple[str, str]], subject: Subject) -> ClientRequest:
    """Return the request with metadata in its header: the configured `entries`, and the entries that the client has
    sent.

    The templates in `entries` are filled in. If there are more than `MAX_ENTRIES`, some of the client's entries are
    left out. If the client's header is not a JSON object, the request is returned unchanged, so that the provider
    refuses it.
    """
    own = {name: fitting(filled(value, subject), _NOT_IN_VALUE, _LENGTHS) for name, value in entries}
    try:
        given = orjson.loads(request.headers.get(HEADER, "{}"))
    except orjson.JSONDecodeError:
        return request
    if not isinstance(given, dict):
        return request
    others = [(name, value) for name, value in given.items() if name not in own]
    merged = own | dict(others[: MAX_ENTRIES - len(own)])
    return replace(request, headers={**request.headers, HEADER: orjson.dumps(merged).decode()})
