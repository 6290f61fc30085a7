"""The `encrypted_content` of a reasoning item that a conversion wrote: thinking as it must come back, block by block.

- Clients of the Responses API store this string for the server and send it back unread. Without it, tool loops of
  thinking models break (litellm#36197).
- An item may hold several blocks, readable and redacted. Each signature is tagged with the family that made it
  (`shared/reasoning.py`).
- The text stands beside its signature, since a client may shorten the summary that it shows.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import orjson

from gateway.contract.flag import Drop, Members

MARK: Final = "irisgate1+"
"""Start of the string. One that begins otherwise was made elsewhere, and is unreadable here."""
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])


def packed(blocks: Sequence[Mapping[str, str]]) -> str:
    """Return the string for tagged blocks, each with `thinking` and `signature`, or with `data`."""
    return MARK + base64.urlsafe_b64encode(orjson.dumps(blocks)).decode()


def unpacked(value: str) -> list[dict[str, str]] | None:
    """Return the blocks that `packed` got; None for a string that it did not make."""
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
    """Return the change that removes reasoning items with `MARK` from `input`; {} if there are none.

    OpenAI's own models refuse encrypted content that is not theirs, and such a history began on a translated
    conversion. All other items keep their bytes.
    """
    if MARK.encode() not in top.get("input", b""):
        return {}
    try:
        items = _ITEMS.decode(top["input"])
    except msgspec.DecodeError:  # a text, or an input that the provider refuses
        return {}
    others = [bytes(item) for index, item in enumerate(items) if not _is_marked(bytes(item), index, drop)]
    return {} if len(others) == len(items) else {"input": b"[" + b",".join(others) + b"]"}


def _is_marked(item: bytes, index: int, drop: Drop) -> bool:
    """Return whether a conversion wrote this reasoning item, and report it if so."""
    if MARK.encode() not in item:
        return False
    value = orjson.loads(item)
    if not isinstance(value, dict) or value.get("type") != "reasoning":
        return False
    content = value.get("encrypted_content")
    if not isinstance(content, str) or not content.startswith(MARK):
        return False
    drop(f"/input/{index}")
    return True


def _is_block(block: Any) -> bool:
    return isinstance(block, dict) and all(isinstance(value, str) for value in block.values())
