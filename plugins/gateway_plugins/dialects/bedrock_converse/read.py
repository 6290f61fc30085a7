"""Readers of the messages and system prompt of a Converse request.

The readers return the values of `values.py`, for every translation from Converse.

- A malformed value is refused with a 400 that names the field.
- A field that botocore's service model does not have is reported as dropped.
- A block of an unknown kind in an assistant message is left out and reported, because a 400 would end the session.
- The client must send a file as bytes, because the gateway cannot read S3 buckets.

The translation decides which values the provider accepts. Parameters are read in `read_options.py`. Source: botocore's
service model (Message, ContentBlock and the shapes inside them).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Members
from gateway_plugins.dialects.bedrock_converse.emit import LOCATIONS
from gateway_plugins.dialects.bedrock_converse.values import (
    Block,
    CachePoint,
    Call,
    Document,
    File,
    Json,
    Message,
    Result,
    SearchResult,
    Text,
    ToolChange,
)
from gateway_plugins.shared import media, numbers
from gateway_plugins.shared.checks import arguments, list_of, struct, text_at
from gateway_plugins.shared.fields import member, param
from gateway_plugins.shared.media import Media
from gateway_plugins.shared.reasoning import Reasoning
from gateway_plugins.shared.reply_events import Citation

_ROLES: Final = ("user", "assistant", "system")
_TTLS: Final = ("5m", "1h")
_SOUNDS: Final[Mapping[str, str]] = {"mpeg": "mp3", "mpga": "mp3"}
"""Maps names of audio formats in Converse to the gateway's names. All other formats have the same name in Converse and
in the gateway."""
_ANYWHERE: Final = (Text, CachePoint, ToolChange)
_SIDES: Final[Mapping[str, tuple[type, ...]]] = {
    "user": (*_ANYWHERE, File, Document, SearchResult, Result),
    "assistant": (*_ANYWHERE, Reasoning, Call),
    "system": _ANYWHERE,
}
"""Classes of the content blocks that a message may have, by the message's role. Any other block is refused."""


def messages(top: Members, drop: Drop) -> list[Message]:
    """Return the messages.

    Calls of tools that a provider ran on its own servers are left out and reported as dropped, with their results.
    """
    servers: set[str] = set()
    conversation = []
    for index, raw in enumerate(list_of(member(top, "messages"), "/messages")):
        at = f"/messages/{index}"
        message = struct(raw, at, ("role", "content"), drop)
        role = message.get("role")
        if role not in _ROLES:
            raise invalid(f'{param(at)}.role: "{role}" is not one of {", ".join(_ROLES)}', f"{param(at)}.role")
        raws = list_of(message.get("content"), f"{at}/content")
        if role == "assistant":
            raws = [_known(raw, f"{at}/content/{number}", drop) for number, raw in enumerate(raws)]
        blocks = _blocks(raws, f"{at}/content", _BLOCKS, drop)
        conversation.append(Message(str(role), at, _placed(_without_servers(blocks, servers, drop), str(role))))
    return conversation


def system(top: Members, drop: Drop) -> list[Block]:
    """Return the texts and cache points of the system prompt."""
    return _placed(_blocks(member(top, "system"), "/system", _SYSTEM, drop), "system")


def _known(raw: Any, at: str, drop: Drop) -> Any:
    """Return `raw`, a block of an assistant message, unchanged if its kind is known.

    A block of an unknown kind is reported as dropped, and an empty text block is returned instead.
    """
    members = {name for name, value in raw.items() if value is not None} if isinstance(raw, dict) else set()
    if not members or members & _BLOCKS.keys():
        return raw
    drop(at)
    return {"text": ""}


def _without_servers(blocks: list[Block], servers: set[str], drop: Drop) -> list[Block]:
    """Return the blocks without calls of tools that a provider ran itself, and without the results of such calls.

    `servers` has the ids of such calls in earlier messages. The function adds the ids of such calls in `blocks`.
    """
    carried = []
    for block in blocks:
        if isinstance(block, Call) and block.is_servers:
            servers.add(block.id)
        if isinstance(block, Call | Result) and block.id in servers:
            drop(block.at)
        else:
            carried.append(block)
    return carried


def _placed(blocks: list[Block], role: str) -> list[Block]:
    for block in blocks:
        if not isinstance(block, _SIDES[role]):
            field = param(block.at)
            raise invalid(f"{field}: this cannot stand in a message of role {role} here; leave it out", field)
    return blocks


def union(value: Any, at: str, known: Collection[str]) -> tuple[str, Any]:
    """Return the name and value of the only field of an object. Fields that are null do not count.

    Raises `Refused` if there is not exactly one field, or if its name is not in `known`.
    """
    members = {name: inner for name, inner in value.items() if inner is not None} if isinstance(value, dict) else {}
    if len(members) != 1 or not members.keys() <= set(known):
        others = f", not {', '.join(members)}" if members else ""
        raise invalid(f"{param(at)} must have exactly one of {', '.join(known)}{others}", param(at))
    return next(iter(members.items()))


def cache_point(value: Any, at: str, drop: Drop) -> CachePoint:
    """Return a cache point. `at` is the JSON pointer of the block with the field `cachePoint`."""
    inner = struct(value, f"{at}/cachePoint", ("type", "ttl"), drop)
    ttl = inner.get("ttl")
    if ttl not in (None, *_TTLS):
        field = f"{param(at)}.cachePoint.ttl"
        raise invalid(f'{field}: "{ttl}" is not one of {", ".join(_TTLS)}', field)
    return CachePoint(f"{at}/cachePoint", str(ttl or ""))


_Read = Callable[[Any, str, Drop], Block]


def _blocks(value: Any, at: str, known: Mapping[str, _Read], drop: Drop) -> list[Block]:
    blocks = []
    for index, raw in enumerate(list_of(value, at)):
        kind, inner = union(raw, f"{at}/{index}", known)
        blocks.append(known[kind](inner, f"{at}/{index}", drop))
    return blocks


def _text(value: Any, at: str, _drop: Drop) -> Text:
    return Text(at, text_at({"text": value}, "text", at, needed=True))


def _bytes(value: Any, at: str, others: Collection[str] = ()) -> tuple[str, Any]:
    """Return the name and value of the only field of a file's `source`: `bytes`, or one of `others`.

    Raises `Refused` for a file in an S3 bucket.
    """
    kind, inner = union(value, f"{at}/source", ("bytes", *others, "s3Location"))
    if kind == "s3Location":
        field = f"{param(at)}.source.s3Location"
        raise invalid(f"{field}: this provider reads no S3 buckets; send the file itself as source.bytes", field)
    if kind == "bytes" and not isinstance(inner, str):
        raise invalid(f"{param(at)}.source.bytes must be base64 text", f"{param(at)}.source.bytes")
    return kind, inner


def _image(value: Any, at: str, drop: Drop) -> File:
    at = f"{at}/image"
    inner = struct(value, at, ("format", "source"), drop)
    field = f"{param(at)}.source.bytes"
    data = media.decode_base64(_bytes(inner.get("source"), at)[1], field)
    mime = media.sniff_type(data) or ""
    if not mime.startswith("image/"):
        raise invalid(f"{field}: this is no png, jpeg, gif or webp image", field)
    return File(at, Media(mime, data))


def _sound(value: Any, at: str, drop: Drop) -> File:
    at = f"{at}/audio"
    inner = struct(value, at, ("format", "source"), drop)
    format_ = text_at(inner, "format", at, needed=True)
    sound = _bytes(inner.get("source"), at)[1]
    return File(at, media.audio(sound, _SOUNDS.get(format_, format_), param(at)))


def _video(_value: Any, at: str, _drop: Drop) -> Block:
    raise invalid(f"{param(at)}.video: this provider takes no video; leave it out", f"{param(at)}.video")


def _document(value: Any, at: str, drop: Drop) -> Document:
    at = f"{at}/document"
    inner = struct(value, at, ("format", "name", "source", "context", "citations"), drop)
    name = text_at(inner, "name", at)
    kind, source = _bytes(inner.get("source"), at, ("text", "content"))
    file: Media | None = None
    texts: tuple[str, ...] = ()
    if kind == "bytes":
        # `format` is passed as a file extension, which decides on the type if the bytes do not identify it
        read = media.document(source, f"x.{text_at(inner, 'format', at)}", f"{param(at)}.source.bytes")
        file = Media(read.mime, read.data, name)
    else:
        texts = _texts(source if kind == "content" else [{"text": source}], f"{at}/source/{kind}", drop)
    context, citations = text_at(inner, "context", at), _cites(inner, at, drop)
    return Document(at, name, file, texts, kind == "content", context, citations)


def _texts(value: Any, at: str, drop: Drop) -> tuple[str, ...]:
    parts = enumerate(list_of(value, at))
    return tuple(
        text_at(struct(part, f"{at}/{index}", ("text",), drop), "text", f"{at}/{index}", needed=True)
        for index, part in parts
    )


def _cites(inner: Mapping[str, Any], at: str, drop: Drop) -> bool:
    config = inner.get("citations")
    return config is not None and struct(config, f"{at}/citations", ("enabled",), drop).get("enabled") is True


def _search_result(value: Any, at: str, drop: Drop) -> SearchResult:
    at = f"{at}/searchResult"
    inner = struct(value, at, ("source", "title", "content", "citations"), drop)
    texts = _texts(inner.get("content"), f"{at}/content", drop)
    source, title = text_at(inner, "source", at, needed=True), text_at(inner, "title", at, needed=True)
    return SearchResult(at, source, title, texts, _cites(inner, at, drop))


def _guarded(value: Any, at: str, drop: Drop) -> Block:
    """Return the text or image in `guardContent`, with `guarded` set to true."""
    at = f"{at}/guardContent"
    kind, inner = union(value, at, ("text", "image"))
    if kind == "image":
        return replace(_image(inner, at, drop), guarded=True)
    text = struct(inner, f"{at}/text", ("text",), drop)
    return Text(at, text_at(text, "text", f"{at}/text", needed=True), guarded=True)


def _cache_point(value: Any, at: str, drop: Drop) -> CachePoint:
    return cache_point(value, at, drop)


def _thinking(value: Any, at: str, drop: Drop) -> Reasoning:
    at = f"{at}/reasoningContent"
    kind, inner = union(value, at, ("reasoningText", "redactedContent"))
    if kind == "redactedContent":
        # the decoded bytes are Anthropic's data, which is base64 text itself (seen in recorded traffic)
        encoded = text_at(value, kind, at)
        return Reasoning(at, data=media.decode_base64(encoded, f"{param(at)}.redactedContent").decode("latin-1"))
    text = struct(inner, f"{at}/reasoningText", ("text", "signature"), drop)
    at = f"{at}/reasoningText"
    return Reasoning(at, text_at(text, "text", at), text_at(text, "signature", at))


def _cited(value: Any, at: str, drop: Drop) -> Text:
    """Return the text of a `citationsContent` block, with its citations."""
    at = f"{at}/citationsContent"
    inner = struct(value, at, ("content", "citations"), drop)
    answer = "".join(_texts(inner.get("content"), f"{at}/content", drop))
    raws = enumerate(list_of(inner.get("citations"), f"{at}/citations"))
    citations = (_citation(raw, f"{at}/citations/{index}", drop) for index, raw in raws)
    return Text(at, answer, tuple(filter(None, citations)))


def _citation(value: Any, at: str, drop: Drop) -> Citation | None:
    """Return a citation. A citation without a location, which only Bedrock has, is reported as dropped.

    The result for it is None.
    """
    inner = struct(value, at, ("title", "source", "sourceContent", "location"), drop)
    cited = "".join(_texts(inner.get("sourceContent"), f"{at}/sourceContent", drop))
    title, source = text_at(inner, "title", at), text_at(inner, "source", at)
    location = f"{at}/location"
    if inner.get("location") is None:
        drop(at)
        return None
    kind, place = union(inner.get("location"), location, ("web", *LOCATIONS))
    if kind == "web":
        url = text_at(struct(place, f"{location}/web", ("url", "domain"), drop), "url", f"{location}/web")
        return Citation("web", cited, title, url or source)
    citation_kind, index = LOCATIONS[kind]
    place = struct(place, f"{location}/{kind}", (index, "start", "end"), drop)
    offsets = [numbers.whole(place.get(name), f"{location}/{kind}/{name}") or 0 for name in (index, "start", "end")]
    return Citation(citation_kind, cited, title, source, *offsets)


def _call(value: Any, at: str, drop: Drop) -> Call:
    at = f"{at}/toolUse"
    inner = struct(value, at, ("toolUseId", "name", "input", "type"), drop)
    input_ = inner.get("input")
    if input_ is not None and not isinstance(input_, dict):
        raise invalid(f"{param(at)}.input must be an object", f"{param(at)}.input")
    tool_id, name = text_at(inner, "toolUseId", at, needed=True), text_at(inner, "name", at, needed=True)
    return Call(at, tool_id, name, arguments(input_), inner.get("type") == "server_tool_use")


def _result(value: Any, at: str, drop: Drop) -> Result:
    at = f"{at}/toolResult"
    inner = struct(value, at, ("toolUseId", "content", "status", "type"), drop)
    status = inner.get("status")
    if status not in (None, "success", "error"):
        raise invalid(f'{param(at)}.status: "{status}" is not one of success, error', f"{param(at)}.status")
    content = _blocks(inner.get("content"), f"{at}/content", _IN_RESULTS, drop)
    return Result(at, text_at(inner, "toolUseId", at, needed=True), content, status == "error")


def _json(value: Any, at: str, _drop: Drop) -> Json:
    return Json(f"{at}/json", value)


def _tool_change(value: Any, at: str, drop: Drop, *, added: bool) -> ToolChange:
    inner = struct(value, at, ("tool",), drop)
    tool = struct(inner.get("tool"), f"{at}/tool", ("type", "name", "serverName"), drop)
    kind, name, server = (text_at(tool, member, f"{at}/tool") for member in ("type", "name", "serverName"))
    return ToolChange(at, added, kind or "tool_reference", name, server)


def _tool_addition(value: Any, at: str, drop: Drop) -> ToolChange:
    return _tool_change(value, f"{at}/toolAddition", drop, added=True)


def _tool_removal(value: Any, at: str, drop: Drop) -> ToolChange:
    return _tool_change(value, f"{at}/toolRemoval", drop, added=False)


_FILES: Final[Mapping[str, _Read]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "video": _video,
    "searchResult": _search_result,
}
_SYSTEM: Final[Mapping[str, _Read]] = {"text": _text, "guardContent": _guarded, "cachePoint": _cache_point}
_IN_RESULTS: Final[Mapping[str, _Read]] = {**_FILES, "json": _json}
_BLOCKS: Final[Mapping[str, _Read]] = {
    **_FILES,
    **_SYSTEM,
    "audio": _sound,
    "toolUse": _call,
    "toolResult": _result,
    "reasoningContent": _thinking,
    "citationsContent": _cited,
    "toolAddition": _tool_addition,
    "toolRemoval": _tool_removal,
}
