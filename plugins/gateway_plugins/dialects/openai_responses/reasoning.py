"""Encodes thinking blocks as the encrypted part (`encrypted_content`) of reasoning items that the gateway writes.

- Clients of the Responses API store the encoded string and send it back unchanged. Without the string, a thinking model
  cannot continue after a tool call (litellm#36197).
- The encoded value is a list of blocks, each of them readable or redacted. Each signature has the tag of the model
  family that made it (`shared/reasoning.py`).
- A readable block has both the signature and the text of the thinking. The provider requires the exact text back. The
  text in the item's summary does not suffice, because the client may have shortened it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.contract import lenient_json
from gateway.contract.flag import Drop, Members
from gateway_plugins.shared.lenient import text

MARK: Final = "irisgate1+"
"""Beginning of each `encrypted_content` that the gateway writes. A string with another beginning comes from another
server, and cannot be read here."""
ID: Final = "rs_irisgate"
"""Prefix of the ids of reasoning items that the gateway writes. OpenAI's own ids begin with "rs_"."""


def packed(blocks: Sequence[Mapping[str, str]]) -> str:
    """Return an `encrypted_content` in which thinking blocks are encoded.

    Each block has `thinking` and `signature`, or `data`. The signature or data must begin with the gateway's tag for
    its model family (`shared/reasoning.py`).
    """
    return MARK + base64.urlsafe_b64encode(orjson.dumps(blocks)).decode()


def unpacked(value: str) -> list[dict[str, str]] | None:
    """Return the blocks in a string that `packed` made, or None for any other string."""
    if not value.startswith(MARK):
        return None
    try:
        blocks = orjson.loads(base64.b64decode(value[len(MARK) :], altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        return None
    if not isinstance(blocks, list) or not all(map(_is_block, blocks)):
        return None
    return blocks


def without_ours(top: Members, drop: Drop) -> dict[str, bytes | None]:
    """Return `{"input": ...}` without the reasoning items that the gateway wrote, or {} if there are none.

    The gateway wrote such items if a provider with another dialect answered earlier turns. OpenAI cannot read their
    encrypted content, and would look up an item without encrypted content by its id (farion1231/cc-switch#5825). So the
    whole item is removed. The bytes of all other items stay the same.
    """
    if not _may_be_ours(top.get("input", b"")):
        return {}
    try:
        items = lenient_json.raw_items(top["input"])
    except ValueError:  # a text, or an input that the provider refuses
        return {}
    others = [item for index, item in enumerate(items) if not _is_marked(item, index, drop)]
    return {} if len(others) == len(items) else {"input": b"[" + b",".join(others) + b"]"}


def _is_marked(item: bytes, index: int, drop: Drop) -> bool:
    """Return whether `item` is a reasoning item that the gateway wrote. If so, report the item as dropped.

    `index` is the index of the item in the field `input`.
    """
    if not _may_be_ours(item):
        return False
    value = lenient_json.loads(item)
    if not isinstance(value, dict) or value.get("type") != "reasoning":
        return False
    if not (text(value.get("encrypted_content")).startswith(MARK) or text(value.get("id")).startswith(ID)):
        return False
    drop(f"/input/{index}")
    return True


def _may_be_ours(raw: bytes) -> bool:
    return MARK.encode() in raw or ID.encode() in raw


def _is_block(block: Any) -> bool:
    return isinstance(block, dict) and all(isinstance(value, str) for value in block.values())
