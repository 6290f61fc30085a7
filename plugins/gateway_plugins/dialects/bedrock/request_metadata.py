"""Converts the metadata of a request from InvokeModel's header to Converse's field.

AWS writes the metadata into its logs of model invocations. Source: botocore's service model of bedrock-runtime
(`RequestMetadata`).
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway.contract.errors import invalid
from gateway.contract.flag import Members

METADATA: Final = "x-amzn-bedrock-request-metadata"
"""InvokeModel's header for the metadata of a request. In Converse, the metadata is in the field `requestMetadata`."""
MAX_METADATA: Final = 16
"""Maximum number of entries in the metadata of a request."""


def read_metadata(header: str) -> Any:
    try:
        return orjson.loads(header)
    except orjson.JSONDecodeError:
        raise invalid(f'{METADATA}: must be a JSON object, such as {{"team": "a"}}', METADATA) from None


def metadata_member(header: str, top: Members) -> dict[str, bytes | None]:
    """Return the change that adds the header's entries to `requestMetadata` of a Converse body.

    An entry of the header replaces an entry of the same name in the body. If there are more than `MAX_METADATA`
    entries, the last entries of the body are left out. If the header or `requestMetadata` is not a JSON object, the
    result is {} (no change), and Bedrock refuses the request.
    """
    added, given = read_metadata(header), orjson.loads(top.get("requestMetadata", b"{}"))
    if not isinstance(added, dict) or not isinstance(given, dict):
        return {}
    others = [(name, value) for name, value in given.items() if name not in added]
    return {"requestMetadata": orjson.dumps(added | dict(others[: max(0, MAX_METADATA - len(added))]))}
