"""Readers that turn the conversation in a Messages request into plain values, for every translation from Messages.

- A value that cannot be read is refused with a 400 that names its field.
- A field that no other dialect has is reported as dropped.
- A block that only Anthropic's servers understand is left out and reported as dropped.
- A block of an unknown type in an assistant message is left out and reported too. A 400 would end a session that began
  with another provider.
- A block of an unknown type in a user message is refused, because it may be the question that the model must answer.

The translations decide which values a provider accepts. Tools and parameters are read in `read_options.py`. Sources:
Anthropic's API reference (Messages) and the types of Anthropic's SDK.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Members
from gateway_plugins.dialects.anthropic_messages.system_messages import (
    CLEAR_AT,
    CLEARINGS,
    TOOL_CHANGES,
    cleared,
    inline_tool,
)
from gateway_plugins.shared import media
from gateway_plugins.shared.attribution import without_attribution
from gateway_plugins.shared.checks import arguments, flag_of, inner_leftovers, list_of, object_of, text_of
from gateway_plugins.shared.fields import Ttl, member, param
from gateway_plugins.shared.media import Media
from gateway_plugins.shared.reasoning import Reasoning
from gateway_plugins.shared.reply_events import Citation

Raw = dict[str, Any]

_ROLES: Final = ("user", "assistant", "system")
_LOCATIONS: Final[Mapping[str, tuple[str, str, str, str]]] = {
    # type in the API: (kind of citation, names of its fields for index, start and end)
    "char_location": ("char", "document_index", "start_char_index", "end_char_index"),
    "page_location": ("page", "document_index", "start_page_number", "end_page_number"),
    "content_block_location": ("block", "document_index", "start_block_index", "end_block_index"),
    "search_result_location": ("search_result", "search_result_index", "start_block_index", "end_block_index"),
    "web_search_result_location": ("web", "", "", ""),
}


@dataclass(frozen=True, slots=True)
class Text:
    """A text block. Only a text in an assistant message may have citations."""

    at: str
    """JSON pointer of the block in the client's body, as in every class of this module."""
    text: str
    ttl: Ttl = None
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """An image or a document."""

    at: str
    media: Media | None
    ttl: Ttl = None
    title: str = ""
    context: str = ""
    texts: tuple[str, ...] = ()
    """Texts of a document with `source.content`. The model can cite each text. It is () for a file in `media`."""
    citations: bool = False
    """True if the model shall cite the document."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    at: str
    source: str
    title: str
    texts: tuple[str, ...]
    ttl: Ttl = None
    citations: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call in an assistant message."""

    at: str
    id: str
    name: str
    input: Raw
    ttl: Ttl = None


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a tool call."""

    at: str
    call_id: str
    content: tuple[Text | File | SearchResult, ...]
    is_error: bool = False
    ttl: Ttl = None


Block = Text | File | SearchResult | Reasoning | Call | Result


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `role` is user, assistant or system."""

    role: str
    at: str
    content: tuple[Block, ...]


def system(top: Members, drop: Drop) -> list[Text]:
    """Return the texts of the system prompt, also blank ones, without Claude Code's attribution (for billing)."""
    blocks = _uncited(_blocks(member(top, "system"), "/system", drop, _SYSTEM), drop)
    return [replace(block, text=without_attribution(block.text)) for block in blocks if isinstance(block, Text)]


def messages(top: Members, drop: Drop) -> list[Message]:
    """Return the conversation.

    Raises `Refused` if the id of a tool result is not the id of a tool call in the preceding assistant message.
    """
    raws = member(top, "messages")
    if not isinstance(raws, list) or not raws:
        raise invalid('"messages" must be a list with at least one message', "messages")
    conversation = []
    hidden = cleared(raws)
    for index, raw in enumerate(raws):
        at = f"/messages/{index}"
        role = raw.get("role") if isinstance(raw, dict) else None
        if role not in _ROLES:
            field = f"{param(at)}.role"
            raise invalid(f'{field}: "{role}" is not one of {", ".join(_ROLES)}', field)
        known = ("role", "content", CLEAR_AT) if raw.get(CLEAR_AT) in CLEARINGS else ("role", "content")
        inner_leftovers(raw, known, at, drop)
        blocks = _blocks(raw.get("content"), f"{at}/content", drop, _ALLOWED[role])
        if index in hidden:
            blocks = [block for block in blocks if not isinstance(block, Text)]
        conversation.append(Message(role, at, tuple(blocks if role == "assistant" else _uncited(blocks, drop))))
    _check_results(conversation)
    return conversation


def ttl_of(raw: Raw, at: str, drop: Drop) -> Ttl:
    """Return the lifetime that `cache_control` names, or "" if it names none. Return None if there is no such field.

    Other fields of `cache_control`, such as `scope`, are reported as dropped.
    """
    mark = raw.get("cache_control")
    if mark is None:
        return None
    field = param(f"{at}/cache_control")
    ttl = mark.get("ttl") if isinstance(mark, dict) else None
    if not isinstance(mark, dict) or mark.get("type") != "ephemeral" or ttl not in (None, "5m", "1h"):
        raise invalid(f'{field} must be {{"type": "ephemeral"}}, with a "ttl" of 5m or 1h or none', field)
    inner_leftovers(mark, ("type", "ttl"), f"{at}/cache_control", drop)
    return ttl or ""


def _uncited(blocks: Iterable[Block], drop: Drop) -> list[Block]:
    """Remove the citations from the blocks of a user or system message, and report them as dropped.

    In other dialects, only the model's answers may have citations.
    """
    uncited: list[Block] = []
    for block in blocks:
        if isinstance(block, Text) and block.citations:
            drop(f"{block.at}/citations")
            uncited.append(replace(block, citations=()))
        else:
            uncited.append(block)
    return uncited


def _check_results(conversation: list[Message]) -> None:
    """Raise `Refused` if the id of a tool result is not the id of a tool call in the preceding assistant message."""
    calls: set[str] = set()
    before = ""
    for message in conversation:
        if message.role == "assistant":
            calls = calls if before == "assistant" else set()
            calls |= {block.id for block in message.content if isinstance(block, Call)}
        for block in message.content:
            if isinstance(block, Result) and block.call_id not in calls:
                field = f"{param(block.at)}.tool_use_id"
                error = f'{field}: no tool_use block of the assistant message before has the id "{block.call_id}"'
                raise invalid(error, field)
        before = message.role


def _blocks(content: Any, at: str, drop: Drop, allowed: Collection[str]) -> list[Block]:
    """Return the blocks of a content, which is a string or a list. `allowed` are the accepted types of blocks."""
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(at, content)]
    if not isinstance(content, list):
        raise invalid(f"{param(at)} must be a string or a list of blocks", param(at))
    blocks = (_block(raw, f"{at}/{index}", drop, allowed) for index, raw in enumerate(content))
    return [block for block in blocks if block is not None]


def _block(raw: Any, at: str, drop: Drop, allowed: Collection[str]) -> Block | None:
    """Return the value of a content block whose type is in `allowed`.

    For a block of another type, `_is_foreign` decides: the block is reported as dropped and the result is None, or
    `Refused` is raised.
    """
    kind = raw.get("type") if isinstance(raw, dict) else None
    if isinstance(kind, str) and kind not in allowed and _is_foreign(kind, allowed):
        if allowed is _ALLOWED["assistant"] or inline_tool(raw) is None:
            drop(at)
        else:
            inner_leftovers(raw, ("type", "tool"), at, drop)
        return None
    if not isinstance(kind, str) or kind not in allowed:
        field = f"{param(at)}.type"
        raise invalid(f'{field}: "{kind}" cannot be carried to this model; {", ".join(allowed)} can', field)
    read, members = _READERS[kind]
    inner_leftovers(raw, ("type", *members), at, drop)
    return read(raw, at, drop)


def _is_foreign(kind: str, allowed: Collection[str]) -> bool:
    """Return whether a block is left out of the request. If the result is False, the whole request must be refused.

    `kind` is the type of the block. It is not in `allowed`, the types of blocks that can be sent to the model.
    """
    if allowed is _ALLOWED["assistant"]:
        return kind not in _READERS
    if allowed is _ALLOWED["system"]:
        return kind in TOOL_CHANGES
    return allowed is _ALLOWED["user"] and (kind in _SERVERS_INPUT or kind.endswith("_tool_result"))


def _text(raw: Raw, at: str, drop: Drop) -> Text:
    citations = []
    for index, value in enumerate(list_of(raw.get("citations"), f"{at}/citations")):
        if (citation := _citation(value)) is None:
            drop(f"{at}/citations/{index}")
        else:
            citations.append(citation)
    return Text(at, _string(raw, "text", at), ttl_of(raw, at, drop), tuple(citations))


def _citation(value: Any) -> Citation | None:
    """Return one citation of a text block, or None if the citation is malformed."""
    raw = value if isinstance(value, dict) else {}
    if (location := _LOCATIONS.get(str(raw.get("type")))) is None:
        return None
    kind, *names = location
    words = [str(raw.get(name) or "") for name in ("cited_text", "document_title", "title", "url", "source")]
    cited, document, title, url, source = words
    numbers = [raw[name] for name in names if isinstance(raw.get(name), int)]
    if len(numbers) < len([name for name in names if name]):
        return None
    return Citation(kind, cited, document or title, url or source, *numbers)


def _image(raw: Raw, at: str, drop: Drop) -> File:
    source, field = object_of(raw.get("source"), f"{at}/source"), f"{param(at)}.source"
    if source.get("type") != "base64":
        raise _not_here(source, field)
    file = media.image(_data_url(source, f"{at}/source"), f"{field}.data")
    return File(at, file, ttl_of(raw, at, drop))


def _data_url(source: Raw, at: str) -> str:
    return f"data:{text_of(source.get('media_type'), f'{at}/media_type')};base64,{_string(source, 'data', at)}"


def _not_here(source: Raw, field: str) -> Exception:
    kind = source.get("type")
    return invalid(f'{field}.type: "{kind}" cannot be read here; send the data itself, as "base64"', f"{field}.type")


def _document(raw: Raw, at: str, drop: Drop) -> File:
    source, field = object_of(raw.get("source"), f"{at}/source"), f"{param(at)}.source"
    kind = source.get("type")
    title = text_of(raw.get("title"), f"{at}/title")
    file: Media | None = None
    texts: tuple[str, ...] = ()
    if kind == "base64":
        file = media.document(_data_url(source, f"{at}/source"), title, f"{field}.data")
        if file.kind != "document":
            raise invalid(f"{field}.data: {file.mime} is no document; send it as a block of its own", f"{field}.data")
    elif kind == "text":
        file = Media("text/plain", _visible(source.get("data"), f"{at}/source/data").encode(), title)
    elif kind == "content":
        texts = _texts(source.get("content"), f"{at}/source/content", drop)
    else:
        raise _not_here(source, field)
    context = text_of(raw.get("context"), f"{at}/context")
    return File(at, file, ttl_of(raw, at, drop), title, context, texts, _is_cited(raw, at))


def _visible(value: Any, at: str) -> str:
    text = text_of(value, at)
    if not text.strip():
        raise invalid(f"{param(at)} must hold text that can be seen", param(at))
    return text


def _texts(content: Any, at: str, drop: Drop) -> tuple[str, ...]:
    """Return the texts of a document or of a search result."""
    blocks = _uncited(_blocks(content, at, drop, ("text",)), drop)
    for block in blocks:
        if isinstance(block, Text) and block.ttl is not None:  # only the block around the texts can carry a breakpoint
            drop(f"{block.at}/cache_control")
    texts = tuple(block.text for block in blocks if isinstance(block, Text) and block.text.strip())
    if not texts:
        raise invalid(f"{param(at)} must hold text that can be seen", param(at))
    return texts


def _is_cited(raw: Raw, at: str) -> bool:
    citations = object_of(raw.get("citations"), f"{at}/citations")
    return flag_of(citations.get("enabled"), f"{at}/citations/enabled") is True


def _search_result(raw: Raw, at: str, drop: Drop) -> SearchResult:
    texts = _texts(raw.get("content"), f"{at}/content", drop)
    source, title = _string(raw, "source", at), _string(raw, "title", at)
    return SearchResult(at, source, title, texts, ttl_of(raw, at, drop), _is_cited(raw, at))


def _thinking(raw: Raw, at: str, _drop: Drop) -> Reasoning:
    signature = text_of(raw.get("signature"), f"{at}/signature")
    return Reasoning(at, text_of(raw.get("thinking"), f"{at}/thinking"), signature)


def _redacted(raw: Raw, at: str, _drop: Drop) -> Reasoning:
    return Reasoning(at, data=_string(raw, "data", at))


def _call(raw: Raw, at: str, drop: Drop) -> Call:
    if object_of(raw.get("caller"), f"{at}/caller").get("type") not in (None, "direct"):
        drop(f"{at}/caller")
    input_ = arguments(raw.get("input"))
    return Call(at, _string(raw, "id", at), _string(raw, "name", at), input_, ttl_of(raw, at, drop))


def _result(raw: Raw, at: str, drop: Drop) -> Result:
    content = raw.get("content")
    blocks = _uncited(_blocks(content, f"{at}/content", drop, _IN_RESULTS), drop)
    carried = tuple(block for block in blocks if isinstance(block, (Text, File, SearchResult)))
    is_error = flag_of(raw.get("is_error"), f"{at}/is_error")
    return Result(at, _string(raw, "tool_use_id", at), carried, is_error is True, ttl_of(raw, at, drop))


def _compaction(raw: Raw, at: str, drop: Drop) -> Text:
    """Return the summary of earlier turns in a `compaction` block as text. The text is "" if the block has none."""
    return Text(at, text_of(raw.get("content"), f"{at}/content"), ttl_of(raw, at, drop))


def _reference(raw: Raw, at: str, drop: Drop) -> Text:
    """Return a text in place of a `tool_reference` block. Other dialects have no such block."""
    return Text(at, f"Found the tool {_string(raw, 'tool_name', at)}.", ttl_of(raw, at, drop))


def _string(raw: Raw, name: str, at: str) -> str:
    """Return the value of a field. Raises `Refused` if the value is not a string."""
    value = raw.get(name)
    if not isinstance(value, str):
        raise invalid(f"{param(at)}.{name} must be a string", f"{param(at)}.{name}")
    return value


_SYSTEM: Final = ("text",)
_IN_RESULTS: Final = ("text", "image", "document", "search_result", "tool_reference")
_ALLOWED: Final[Mapping[str, tuple[str, ...]]] = {
    "user": ("text", "image", "document", "search_result", "tool_result"),
    "assistant": ("text", "thinking", "redacted_thinking", "tool_use", "compaction"),
    "system": _SYSTEM,
}
"""Types of blocks that are read in a message, by the message's role."""
_SERVERS_INPUT: Final = TOOL_CHANGES | {"container_upload", "mcp_approval_response"}
"""Types of blocks in user messages that only Anthropic's own servers can use."""
_READERS: Final[Mapping[str, tuple[Callable[[Raw, str, Drop], Block], tuple[str, ...]]]] = {
    # type: (reader, fields that the reader knows)
    "text": (_text, ("text", "cache_control", "citations")),
    "image": (_image, ("source", "cache_control")),
    "document": (_document, ("source", "cache_control", "title", "context", "citations")),
    "search_result": (_search_result, ("source", "title", "content", "cache_control", "citations")),
    "thinking": (_thinking, ("thinking", "signature")),
    "redacted_thinking": (_redacted, ("data",)),
    "tool_use": (_call, ("id", "name", "input", "cache_control", "caller")),
    "tool_result": (_result, ("tool_use_id", "content", "is_error", "cache_control")),
    "tool_reference": (_reference, ("tool_name", "cache_control")),
    "compaction": (_compaction, ("content", "cache_control", "encrypted_content", "signature", "tool_changes")),
}
