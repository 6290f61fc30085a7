"""Metadata of a request, which AWS writes into its logs of model invocations: InvokeModel's header, Converse's member.

Source: botocore's service model of bedrock-runtime (`RequestMetadata`).
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway.contract.errors import invalid
from gateway.contract.flag import Members

METADATA: Final = "x-amzn-bedrock-request-metadata"
"""The header of InvokeModel that means the same as the member `requestMetadata` of a Converse body."""
MAX_METADATA: Final = 16
"""Maximum number of entries of a request's metadata."""


def read_metadata(header: str) -> Any:
    try:
        return orjson.loads(header)
    except orjson.JSONDecodeError:
        raise invalid(f'{METADATA}: must be a JSON object, such as {{"team": "a"}}', METADATA) from None


def metadata_member(header: str, top: Members) -> dict[str, bytes | None]:
    """Return the change of a Converse body that adds the entries of the header to its member `requestMetadata`.

    If both have an entry of the same name, the header's is used. If there are more than `MAX_METADATA` entries, the
    last ones of the body are left out. Return {} if header or member is not an object, so that Bedrock refuses it.
    """
    added, given = read_metadata(header), orjson.loads(top.get("requestMetadata", b"{}"))
    if not isinstance(added, dict) or not isinstance(given, dict):
        return {}
    others = [(name, value) for name, value in given.items() if name not in added]
    return {"requestMetadata": orjson.dumps(added | dict(others[: max(0, MAX_METADATA - len(added))]))}
