"""Downloads the files that a request names by URL. In the body, each file replaces its URL.

- Bedrock and the conversions accept no URLs. So the plugins' hook `steps` (`gateway/contract/flag.py`) downloads the
  files before the body is converted.
- A `data:` URL contains the file itself, so nothing is downloaded for it.
- Only fields with a URL change. All other bytes of the body stay the same.
- The gateway, not this module, decides which URLs are allowed.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec
import orjson

from gateway.contract import lenient_json
from gateway.contract.errors import invalid
from gateway.contract.flag import ClientRequest, Drop, Fetch, Members, StepResponse, Steps, Target
from gateway.contract.json_api import compute
from gateway_plugins.shared import media
from gateway_plugins.shared.fields import member, param
from gateway_plugins.shared.media import Media

MAX_BYTES: Final = 32 * 1024 * 1024
"""Maximum number of bytes of one file, as in Anthropic's limit for a request with a PDF. The configuration may lower
it."""

MAX_PLACES: Final = 500
"""Maximum number of URLs in one request. A request with more is refused. No provider accepts more images."""
MAX_FILLED: Final = 64 * 1024 * 1024
"""Maximum number of bytes by which files may enlarge one body. A file is counted once for each URL that names it."""

Path = tuple[str | int, ...]
Changes = Mapping[Path, bytes | None]
"""Changes of a body: the new JSON value for each path. None removes the field at the path."""

_BEGINNING: Final = b'"http'
"""Beginning of a JSON string with a URL.

Other spellings, such as HTTP in capitals, are not found. A search that ignores case would take milliseconds in a large
body.
"""
_ADDRESSES: Final[Mapping[str, bytes]] = {"openai_responses": b'"file_url"', "anthropic_messages": b'"url"'}
"""Names of fields, by dialect, in which a data: URL is replaced by its file too.

A body with this field is searched for URLs, even if no string in the body begins with `http`."""
_PLACEHOLDER: Final = re.compile(rb"\0(\d+)\0")
_MAX_TYPE: Final = 100
"""Maximum length of a media type in an error message. The longest media type that is accepted has 71 characters."""
_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_PDF: Final = "application/pdf"
_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})


class Place(msgspec.Struct, frozen=True):
    """A URL in a body, and the function that replaces the URL with the file."""

    url: str
    at: Path
    """The keys and indexes that lead to the URL's field in the body."""
    fill: Callable[[Place, StepResponse], Changes]

    @property
    def field(self) -> str:
        """Name of the field in errors, such as `messages[0].content[1].image_url.url`."""
        return param("".join(f"/{step}" for step in self.at))


def steps(request: ClientRequest, target: Target, _drop: Drop) -> Steps | ClientRequest:
    """Return the request with the files in place of their URLs, or a generator that downloads the files and returns
    this request.

    The request is returned unchanged if the provider has the client's dialect and reads URLs itself
    (`caps.remote_media`). Raises `Refused` for a file of the wrong type, such as a document in place of an image.
    """
    if request.dialect == target.dialect and target.caps.remote_media:
        return request
    # most bodies need not be decoded
    return _fetches(request) if _may_have_urls(request) else request


def _fetches(request: ClientRequest) -> Steps:
    places = yield from compute(request, _places, request)
    wanted = {place.url: Fetch(place.url, MAX_BYTES, place.field) for place in reversed(places)}
    order = [wanted[url] for url in dict.fromkeys(place.url for place in places)]
    files: dict[str, StepResponse] = {}
    remote = [fetch for fetch in order if _is_url(fetch.url)]
    for index, fetch in enumerate(remote):
        files[fetch.url] = yield replace(fetch, ahead=tuple(remote[index + 1 :]))
    for fetch in order:
        if fetch.url not in files:
            mime, data = media.data_url(fetch.url, fetch.param)
            files[fetch.url] = StepResponse(200, {"content-type": mime}, data)
    changes = _changes(places, files)
    if not changes:
        return request
    # short placeholders are put in place of the files first, so that each file is copied only once
    # all changes are in the same member
    name = str(next(iter(changes))[0])
    values = [value for value in changes.values() if value is not None]
    numbers = iter(range(len(values)))
    # JSON has no zero bytes, so a placeholder cannot be part of the body
    placed = {path[1:]: None if value is None else b"\0%d\0" % next(numbers) for path, value in changes.items()}
    patched = yield from compute(request, patch, request.top[name], placed)
    pieces = _PLACEHOLDER.split(patched)
    pieces[1::2] = [values[int(number)] for number in pieces[1::2]]
    return replace(request, top=request.top.replaced(name, b"".join(pieces)))


def _changes(places: list[Place], files: Mapping[str, StepResponse]) -> Changes:
    """Return the changes that replace the URLs by their files. Raises `Refused` if the files together are too large."""
    changes: dict[Path, bytes | None] = {}
    size = 0
    for place in places:
        filled = place.fill(place, files[place.url])
        size += sum(len(value) for value in filled.values() if value is not None)
        if size > MAX_FILLED:
            message = f"{place.field}: the files add more than {MAX_FILLED} bytes to the request"
            raise invalid(message, place.field)
        changes |= filled
    return changes


def patch(body: bytes, changes: Changes) -> bytes:
    """Return the JSON text `body` with the values at the given paths replaced, added or removed.

    All other bytes stay the same.
    """
    if () in changes:
        return changes[()] or b"null"
    inner: dict[str | int, dict[Path, bytes | None]] = {}
    for (step, *rest), value in changes.items():
        inner.setdefault(step, {})[tuple(rest)] = value
    if all(isinstance(step, int) for step in inner):
        parts = lenient_json.raw_items(body)
        return b"[" + b",".join(patch(raw, inner[at]) if at in inner else raw for at, raw in enumerate(parts)) + b"]"
    top = Members(body)
    return top.spliced(
        {str(step): within[()] if () in within else patch(top[str(step)], within) for step, within in inner.items()}
    )


def _may_have_urls(request: ClientRequest) -> bool:
    """Return whether a body may have URLs, without decoding the body."""
    dialect, body = request.dialect, request.top.body
    return dialect in _FINDERS and (_BEGINNING in body or (dialect in _ADDRESSES and _ADDRESSES[dialect] in body))


def _places(request: ClientRequest) -> list[Place]:
    """Return a `Place` for each URL in a body. Raises `Refused` if there are more than `MAX_PLACES`."""
    name, find = _FINDERS[request.dialect]
    items = member(request.top, name)
    places: list[Place] = []
    for item, at in _each(items, (name,)):
        for place in find(item, at):
            if len(places) == MAX_PLACES:
                raise invalid(f"{place.field}: at most {MAX_PLACES} URLs are taken in one request", place.field)
            places.append(place)
    return places


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and value[:8].lower().startswith(("http://", "https://"))


def _is_address(value: Any) -> bool:
    """Return whether a value is a URL to fetch, or a data: URL."""
    return _is_url(value) or (isinstance(value, str) and value[:5].lower() == "data:")


def _each(blocks: Any, at: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    for index, block in enumerate(blocks if isinstance(blocks, list) else ()):
        if isinstance(block, dict):
            yield block, (*at, index)


def _in_chat(message: dict[str, Any], at: Path) -> Iterator[Place]:
    """Yield a `Place` for each URL in a Chat message.

    The URLs are in `image_url`, which is an object or a string, and in `file_data`, where OpenRouter accepts a URL.
    """
    for part, here in _each(message.get("content"), (*at, "content")):
        image = part.get("image_url")
        if _is_url(image):
            yield Place(str(image), (*here, "image_url"), _image_as_url)
        elif isinstance(image, dict) and _is_url(image.get("url")):
            yield Place(image["url"], (*here, "image_url", "url"), _image_as_url)
        file = part.get("file")
        if isinstance(file, dict) and _is_url(file.get("file_data")):
            named = bool(file.get("filename"))
            yield Place(file["file_data"], (*here, "file", "file_data"), _file if named else _named_file)


def _in_messages(message: dict[str, Any], at: Path) -> Iterator[Place]:
    """Yield a `Place` for each URL of an image or a document in a message of Anthropic's API.

    Tool results, and documents that are made of blocks, may have such URLs inside.
    """
    for block, here in _each(message.get("content"), (*at, "content")):
        yield from _in_messages(block, here)
        source = block.get("source")
        if not isinstance(source, dict):
            continue
        if source.get("type") == "url" and _is_address(source.get("url")):
            yield Place(source["url"], (*here, "source", "url"), _SOURCES.get(str(block.get("type")), _document_source))
        else:
            yield from _in_messages(source, (*here, "source"))


def _in_responses(item: dict[str, Any], at: Path) -> Iterator[Place]:
    """Yield a `Place` for each URL in an item of a Responses request.

    The URLs are in the parts of a message or of a tool's output. An output may be a single part, such as a screenshot.
    """
    output = item.get("output")
    single = [(output, (*at, "output"))] if isinstance(output, dict) else []
    parts = [*_each(item.get("content"), (*at, "content")), *_each(output, (*at, "output")), *single]
    for part, here in parts:
        if _is_url(part.get("image_url")):
            yield Place(part["image_url"], (*here, "image_url"), _image_as_url)
        if _is_address(part.get("file_url")) and not part.get("file_data"):
            named = bool(part.get("filename")) or not _is_url(part["file_url"])
            yield Place(part["file_url"], (*here, "file_url"), _file_by_url if named else _named_file_by_url)


def _in_contents(content: dict[str, Any], at: Path) -> Iterator[Place]:
    """Yield a `Place` for each URL in an element of Gemini's `contents`, including its function responses."""
    for part, here in _each(content.get("parts"), (*at, "parts")):
        for name in ("functionResponse", "function_response"):
            if isinstance(response := part.get(name), dict):
                yield from _in_contents(response, (*here, name))
        for name, uri in (("fileData", "fileUri"), ("file_data", "file_uri")):
            file = part.get(name)
            if isinstance(file, dict) and _is_url(file.get(uri)):
                yield Place(file[uri], (*here, name, uri), _inline_data)


_FINDERS: Final[Mapping[str, tuple[str, Callable[[dict[str, Any], Path], Iterator[Place]]]]] = {
    "openai_chat": ("messages", _in_chat),
    "anthropic_messages": ("messages", _in_messages),
    "openai_responses": ("input", _in_responses),
    "gemini_generate_content": ("contents", _in_contents),
}


def _image(place: Place, reply: StepResponse, *, pdf: bool) -> Media:
    """Return a fetched image. Its type is read from its bytes, not from the host's `content-type`.

    Raises `Refused` if the file is not an image. A PDF is accepted if `pdf` is true.
    """
    mime = media.sniff_type(reply.body)
    if mime not in _IMAGES and not (pdf and mime == _PDF):
        kind = mime or _declared(reply) or "file of no known type"
        raise invalid(f"{place.field}: what the URL leads to ({kind}) is no png, jpeg, gif or webp image", place.field)
    return Media(str(mime), reply.body)


def _document(place: Place, reply: StepResponse) -> Media:
    """Return a fetched document. Raises `Refused` for a web page, which usually is a login page or an error page."""
    declared = _declared(reply)
    if _is_url(place.url) and declared in _PAGES and media.sniff_type(reply.body) is None:
        raise invalid(f"{place.field}: the URL leads to a web page ({declared}), not to a document", place.field)
    return media.file(reply.body, declared, _name(place.url), place.field)


def _declared(reply: StepResponse) -> str:
    """Return the media type that the web server states in `content-type`, cut to `_MAX_TYPE` characters."""
    return reply.headers.get("content-type", "").partition(";")[0].strip().lower()[:_MAX_TYPE]


def _name(url: str) -> str:
    """Return the name of the file, which is the last segment of the URL's path. Return "" for a data: URL."""
    return "" if not _is_url(url) else unquote(urlsplit(url).path.rpartition("/")[2])


def _data_url(file: Media) -> bytes:
    return b'"data:%b;base64,%b"' % (file.mime.encode(), base64.b64encode(file.data))


def _image_as_url(place: Place, reply: StepResponse) -> Changes:
    # some clients of this dialect send a PDF in place of an image (`media.image`)
    return {place.at: _data_url(_image(place, reply, pdf=True))}


def _file(place: Place, reply: StepResponse) -> Changes:
    return {place.at: _data_url(_document(place, reply))}


def _named_file(place: Place, reply: StepResponse) -> Changes:
    return {**_file(place, reply), (*place.at[:-1], "filename"): orjson.dumps(_name(place.url))}


def _file_by_url(place: Place, reply: StepResponse) -> Changes:
    return {place.at: None, (*place.at[:-1], "file_data"): _data_url(_document(place, reply))}


def _named_file_by_url(place: Place, reply: StepResponse) -> Changes:
    return {**_file_by_url(place, reply), (*place.at[:-1], "filename"): orjson.dumps(_name(place.url))}


def _inline_data(place: Place, reply: StepResponse) -> Changes:
    """Return the changes that put a file in place of its URL in a part of a Gemini request.

    An image is recognized by its first bytes, whatever type the web server states.
    """
    mime = media.sniff_type(reply.body)
    file = Media(mime, reply.body) if mime in _IMAGES else _document(place, reply)
    data = {"mimeType": file.mime, "data": file.base64, "displayName": _name(place.url)}
    part = place.at[:-2]
    return {(*part, place.at[-2]): None, (*part, "inlineData"): orjson.dumps(data)}


def _image_source(place: Place, reply: StepResponse) -> Changes:
    return {place.at[:-1]: _base64(_image(place, reply, pdf=False))}


def _document_source(place: Place, reply: StepResponse) -> Changes:
    """Return the new field `source` of a document in a Messages request.

    The Messages API accepts a PDF as base64, and any other document only as text. Raises `Refused` for a file that is
    neither.
    """
    file = _document(place, reply)
    if file.mime == _PDF:
        return {place.at[:-1]: _base64(file)}
    try:
        text = file.data.decode()
    except UnicodeDecodeError:
        text = ""
    if not text or not file.mime.startswith("text/"):
        raise invalid(
            f"{place.field}: what the URL leads to ({file.mime}) is neither a PDF nor text in UTF-8", place.field
        )
    return {place.at[:-1]: orjson.dumps({"type": "text", "media_type": "text/plain", "data": text})}


_SOURCES: Final = {"image": _image_source}
"""The function that writes the new field `source` of a block, for a block's type. For any other type, it is
`_document_source`."""


def _base64(file: Media) -> bytes:
    head = b'{"type":"base64","media_type":"%b","data":"%b"}'
    return head % (file.mime.encode(), base64.b64encode(file.data))
