"""Files and schemas for requests of every dialect, and two functions that all client classes use."""

from __future__ import annotations

import base64
import json

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = base64.b64encode(b"%PDF-1.4 of nothing").decode()
NO_INPUT = {"type": "object", "properties": {}}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
EPHEMERAL = {"type": "ephemeral"}
MARK = {"type": "ephemeral", "ttl": "1h"}
SCHEMA = {
    # members that some providers do not take
    "type": "object",
    "description": "d",
    "properties": {"a": {"anyOf": [{"items": {}, "minItems": 2, "pattern": "(?=x)"}], "description": "e"}},
    "allOf": [{"properties": {"b": {}}, "required": ["b"]}],
    "$ref": "#/$defs/c",
    "$defs": {"c": {"properties": {"c": {"type": ["string", "null"]}}}},
    "required": ["a"],
    "additionalProperties": {"type": "string"},
}


def marked(block, ttl):
    """Return a block with Anthropic's `cache_control`. Its lifetime is `ttl`, or the default one if `ttl` is "".

    If `ttl` is None, return the block unchanged.
    """
    if ttl is None:
        return block
    return {**block, "cache_control": {**EPHEMERAL, "ttl": ttl} if ttl else EPHEMERAL}


def object_of(text):
    return json.loads(text) if text else {}
