"""Writers of files for a Messages request: images, PDFs, and text documents. Any other file is refused with a 400.

The files come from the readers of the clients' dialects. `shared/media.py` recognises their types. Source: Anthropic's
API reference (Vision, PDF support, Citations).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps
from gateway_plugins.shared.media import Media
from gateway_plugins.shared.turns import Block

_TEXTS: Final = frozenset({"txt", "md", "csv", "html"})
_MAX_TITLE: Final = 500
"""Maximum length of a document's title in characters. The API refuses a longer title."""


def media_block(media: Media, caps: Caps, field: str) -> Block:
    """Return an image or document block. Raises `Refused`, naming `field`, if the model does not accept the file."""
    if media.kind == "image" and caps.images:
        return {"type": "image", "source": _base64(media.mime, media.base64)}
    if media.kind != "document":
        raise invalid(f"{field}: this model takes no {media.kind}", field)
    return document(_source(media, field), media.name, caps, field)


def text_document(texts: Sequence[str], name: str, caps: Caps, field: str, *, is_split: bool) -> Block:
    """Return a document block with these texts. If `is_split` is true, the model can cite each text separately."""
    if not any(map(str.strip, texts)):
        raise invalid(f"{field}: the document is blank", field)
    if is_split:
        parts = [{"type": "text", "text": text} for text in texts if text.strip()]
        return document({"type": "content", "content": parts}, name, caps, field)
    return document(_plain("".join(texts)), name, caps, field)


def document(source: Block, name: str, caps: Caps, field: str) -> Block:
    if not caps.documents:
        raise invalid(f"{field}: this model takes no documents", field)
    return {"type": "document", "source": source} | ({"title": name[:_MAX_TITLE]} if name.strip() else {})


def _source(media: Media, field: str) -> Block:
    if media.format == "pdf":
        return _base64(media.mime, media.base64)
    if media.format not in _TEXTS:
        raise invalid(f"{field}: a document must be a PDF or text, not {media.format}", field)
    try:
        text = media.data.decode()
    except UnicodeDecodeError:
        raise invalid(f"{field}: the text is not UTF-8", field) from None
    if not text.strip():
        raise invalid(f"{field}: the document is blank", field)
    return _plain(text)


def _plain(text: str) -> Block:
    return {"type": "text", "media_type": "text/plain", "data": text}


def _base64(mime: str, data: str) -> Block:
    return {"type": "base64", "media_type": mime, "data": data}
