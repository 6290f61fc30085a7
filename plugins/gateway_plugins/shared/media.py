"""Decodes images, documents and audio that a client sends as data: URLs or base64.

The type of a file is taken from its first bytes if they identify it. The types that clients declare are often wrong,
and Bedrock and Anthropic refuse a file with a wrong type (hermes#55429, QwenPaw#3313). This module fetches no URL, and
does not know the form of a file in any dialect.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from gateway.contract.errors import invalid

_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
)

_FORMATS: Final = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
    "audio/wav": "wav",
    "audio/mpeg": "mp3",
}
_MIMES: Final = {format_: mime for mime, format_ in _FORMATS.items()}
_OTHER_NAMES: Final = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "application/x-pdf": "application/pdf",
    "text/x-markdown": "text/markdown",
    "application/csv": "text/csv",
    "htm": "html",
    "markdown": "md",
    "text": "txt",
}


class Media(msgspec.Struct, frozen=True):
    """The bytes of one file, with its media type."""

    mime: str
    data: bytes
    name: str = ""
    """The client's name for the file."""

    @property
    def format(self) -> str:
        """Bedrock's name of the file's type: png, jpeg, pdf, txt, ..."""
        return _FORMATS[self.mime]

    @property
    def kind(self) -> str:
        """Kind of the file: image, document or audio."""
        family = self.mime.partition("/")[0]
        return family if family in {"image", "audio"} else "document"

    @property
    def base64(self) -> str:
        return base64.b64encode(self.data).decode()


def image(url: str, param: str) -> Media:
    """Return the image in a data: URL. A PDF is accepted too, because some clients send PDFs as images.

    Raises `Refused` if the first bytes identify no known type. `param` is the name of the client's field in errors.
    """
    declared, data = data_url(url, param)
    mime = sniff_type(data)
    if mime is None:
        raise invalid(f'{param}: "{declared}" is no png, jpeg, gif or webp image', param)
    return Media(mime, data)


def document(text: str, name: str, param: str) -> Media:
    """Decode a document that a client sent as a data: URL or as plain base64.

    If neither the first bytes nor the URL identify the type, the extension of the file's name decides. Raises `Refused`
    if no known type is found. `param` is the name of the client's field in errors.
    """
    declared, data = data_url(text, param) if text[:5].lower() == "data:" else ("", decode_base64(text, param))
    return file(data, declared, name, param)


def file(data: bytes, declared: str, name: str, param: str) -> Media:
    """Return the file with the bytes `data`.

    `declared` is the media type that the client or web server states. It is "" if no media type is stated.
    """
    if not data:
        raise invalid(f"{param}: the file is empty", param)
    extension = name.rpartition(".")[2].lower() if "." in name else ""
    mime = sniff_type(data) or _mime_of(declared) or _mime_of(_MIMES.get(_OTHER_NAMES.get(extension, extension), ""))
    if not mime and declared.startswith("text/"):
        mime = "text/plain"
    if not mime:
        known = ", ".join(sorted(_FORMATS.values()))
        raise invalid(f'{param}: a file of type "{declared or extension}" is not one of {known}', param)
    return Media(mime, data, name)


def audio(text: str, format_: str, param: str) -> Media:
    """Return an audio file from base64 `text`. Raises `Refused` if `format_` is not wav or mp3, or `text` is no base64.

    `param` is the name of the client's field in errors.
    """
    if format_ not in {"wav", "mp3"}:
        raise invalid(f'{param}: audio of format "{format_}" is not wav or mp3', param)
    data = decode_base64(text, param)
    if not data:
        raise invalid(f"{param}: the audio is empty", param)
    return Media(_MIMES[format_], data)


def data_url(url: str, param: str) -> tuple[str, bytes]:
    """Return the media type (in lower case, without parameters) and the bytes of a data: URL (RFC 2397).

    Raises `Refused` for any other URL.
    """
    if url[:5].lower() != "data:":
        raise invalid(f"{param}: only data: URLs are taken here; send the file itself as data:TYPE;base64,...", param)
    head, comma, body = url[5:].partition(",")
    if not comma:
        raise invalid(f"{param}: the data: URL has no comma before its data", param)
    mime, *parameters = (word.strip().lower() for word in head.split(";"))
    if "base64" in parameters:
        return mime, decode_base64(body, param)
    return mime, unquote_to_bytes(body)


def decode_base64(text: str, param: str) -> bytes:
    """Return the bytes of base64 text, standard or URL-safe, with or without padding and white space.

    Raises `Refused` for any other text. `param` is the name of the client's field in errors.
    """
    plain = "".join(unquote_to_bytes(text).decode("latin-1").split()) if "%" in text else "".join(text.split())
    plain = plain.translate(_URLSAFE).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid(f"{param}: the data is not base64", param) from None


_URLSAFE: Final = str.maketrans("-_", "+/")


def sniff_type(data: bytes) -> str | None:
    """Return the media type that the first bytes of a file identify, or None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((mime for magic, mime in _MAGIC if data.startswith(magic)), None)


def _mime_of(declared: str) -> str:
    mime = _OTHER_NAMES.get(declared, declared)
    # if a declared image or PDF is in fact something else, the error here is clearer than the provider's error
    return mime if mime in _FORMATS and not mime.startswith(("image/", "audio/")) and mime != "application/pdf" else ""
