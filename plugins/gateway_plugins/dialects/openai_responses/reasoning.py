"""What stands in the `encrypted_content` of a reasoning item of ours: thinking as it must come back, block by block.

Clients of the Responses API keep this string for the server and send it back unread; dropping it is what breaks tool
loops of thinking models (litellm#36197). One item may hold several blocks, readable and redacted; each one's signature
is tagged with the family that made it (`shared/reasoning.py`). The text is kept beside the signature, since a client
may shorten the summary that it shows.
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
"""How the string begins; what begins otherwise was made elsewhere, and is unreadable here."""


_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])


def packed(blocks: Sequence[Mapping[str, str]]) -> str:
    """Blocks are {"thinking", "signature"} or {"data"}, tagged."""
    return MARK + base64.urlsafe_b64encode(orjson.dumps(blocks)).decode()


def unpacked(value: str) -> list[dict[str, str]] | None:
    """What `packed` was given; None for a string that it did not make."""
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
    """The member `input` of a request without reasoning items that we made, if it has any.

    For OpenAI's own models, which refuse encrypted content that is not theirs; the history of such a client began on a
    translated conversion. All other items keep their bytes.
    """
    if MARK.encode() not in top.get("input", b""):
        return {}
    try:
        items = _ITEMS.decode(top["input"])
    except msgspec.DecodeError:  # a text, or what the provider will refuse
        return {}
    kept = [bytes(item) for index, item in enumerate(items) if not _is_ours(bytes(item), index, drop)]
    return {} if len(kept) == len(items) else {"input": b"[" + b",".join(kept) + b"]"}


def _is_ours(item: bytes, index: int, drop: Drop) -> bool:
    if MARK.encode() not in item:
        return False
    value = orjson.loads(item)
    ours = isinstance(value, dict) and value.get("type") == "reasoning" and _begins(value.get("encrypted_content"))
    if ours:
        drop(f"/input/{index}")
    return ours


def _begins(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(MARK)


def _is_block(block: Any) -> bool:
    return isinstance(block, dict) and all(isinstance(value, str) for value in block.values())
