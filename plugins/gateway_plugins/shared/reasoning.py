"""The tag that the gateway puts before signatures of thinking (reasoning).

The tag names the model family that made the thinking. This model family is called the maker.

- A signature, or the data of redacted thinking, is valid only for its maker. Other model families answer 400 or cannot
  use it.
- The client stores the signature or data and sends it back unchanged in the next turn. So the gateway puts the maker
  before the signature or data: `irisgate1:<maker>:<value>`.
- Claude's signatures are valid at every provider of Claude (Anthropic's guide to extended thinking). Claude's
  signatures get no tag, so that a client can continue a conversation without this gateway. Older conversations may have
  a tag before Claude's signatures. Such a tag is still read.
- Some providers require thinking back in another form than a signature. For these providers, the tag names the form:
  `irisgate1:<maker>+<form>:<value>`. The module that knows the form encodes the value. A reader that expects a
  different form treats the value as if another model family had made it.

The tag is the same in all dialects.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import orjson

from gateway.contract.capabilities import base_id
from gateway.contract.flag import Target
from gateway_plugins.shared.fields import is_deep

PREFIX: Final = "irisgate1:"
"""Beginning of the tag that the gateway puts before a signature."""
MAX_VALUE: Final = 1 << 20
"""Maximum number of characters of a value that `Maker.encoded` makes. The largest known signatures have about 100 KB.
"""
_CLAUDES: Final = re.compile(rb"\x12[\x80-\xff]*[\x00-\x7f]\n[\x80-\xff]*[\x00-\x7f]\x08")
"""Pattern for the first bytes of Claude's signatures and redacted data, decoded from base64 (recorded traffic).

The bytes are protocol buffers: field 2 is a message, and the first field of this message is a message that begins with
a number. Gemini's signatures begin with other bytes."""
_CLAUDES_START: Final = 16
"""Number of characters at the beginning of a base64 signature that are decoded, to be compared with `_CLAUDES`."""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Thinking of an earlier turn that the client sent back: text with a signature, or redacted `data`.

    The signature or data still has the gateway's tag (`Maker.tagged`). `Maker.untagged` removes the tag when the
    provider's request is built. Providers that check signatures refuse thinking without a signature.
    """

    at: str
    """JSON pointer of the thinking in the client's request."""
    text: str = ""
    signature: str = ""
    data: str = ""


class Maker(msgspec.Struct, frozen=True):
    """A model family, and how it writes, signs and accepts thinking."""

    family: str
    """Name of the model family. It is `<provider's name>/<model's id>` for an unknown family."""
    provider: str = ""
    is_known: bool = True
    """True if the model's family is known."""
    portable: bool = False
    """True if every provider of the family's models accepts the family's signatures. Clients then get the signatures
    without a tag."""
    inline: bool = False
    """True if the model may write its thinking between tags in its text."""
    unsigned: bool = False
    """True if the model accepts its earlier thinking as text without a signature."""

    @classmethod
    def of(cls, target: Target) -> Maker:
        caps = target.caps
        family = (caps.family or f"{target.provider}/{base_id(target.model)}").replace(":", "_").replace("+", "_")
        return cls(
            family,
            target.provider,
            is_known=bool(caps.family),
            portable=caps.family == caps.portable_signatures != "",
            inline=bool(caps.inline_reasoning),
            unsigned=caps.reasoning_content,
        )

    def tagged(self, value: str) -> str:
        """Return a signature or redacted data with the tag of the model family before it, as the client gets it.

        If `portable` is true, `value` is returned without a tag.
        """
        return value if self.portable else f"{PREFIX}{self.family}:{value}"

    def untagged(self, value: str) -> str | None:
        """Return a signature or redacted data without the gateway's tag, or None if the model cannot use the value.

        - If the tag names another model family, the result is None.
        - A value without a tag is Claude's, or comes from another gateway. The result is None unless `portable` is
          true.
        - The value "" is returned unchanged.

        If the result is None, the caller reports the thinking as dropped.
        """
        if not value.startswith(PREFIX):
            return value if self.portable or not value else None
        maker, _, signature = value[len(PREFIX) :].partition(":")
        return signature if maker == self.family or (not maker and not self.is_known) else None

    def encoded(self, form: str, value: Any) -> str:
        """Return a JSON value as text for the client: base64 after a tag that names the model family and `form`.

        `form` names the structure of the value, such as "gemini". `decoded` returns the value only for the same `form`.
        The result is "" if the value is too large, is nested too deeply, or has lone surrogates.
        """
        if is_deep(value):
            return ""
        try:
            text = base64.urlsafe_b64encode(orjson.dumps(value)).decode()
        except orjson.JSONEncodeError:
            return ""
        return f"{PREFIX}{self.family}+{form}:{text}" if len(text) <= MAX_VALUE else ""

    def decoded(self, form: str, value: str) -> Any:
        """Return the JSON value in a text from `encoded`.

        Return None if the text is damaged, or if it names another model family or another `form`.
        """
        start = f"{PREFIX}{self.family}+{form}:"
        if not value.startswith(start) or len(value) > len(start) + MAX_VALUE:
            return None
        try:
            decoded = orjson.loads(base64.b64decode(value[len(start) :], altchars=b"-_", validate=True))
        except (binascii.Error, ValueError):
            return None
        return None if is_deep(decoded) else decoded


def is_claudes(value: str) -> bool:
    """Return whether `value` looks like a signature or redacted data of Claude, judging by its first bytes.

    `value` must not have the gateway's tag.
    """
    try:
        return _CLAUDES.match(base64.b64decode(value[:_CLAUDES_START], validate=True)) is not None
    except (binascii.Error, ValueError):
        return False
