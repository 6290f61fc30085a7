"""The parts of a request that are not billed by the length of their text, such as images and web searches.

Quotas reserve the possible cost of a call before the gateway sends the call. To estimate this cost, the gateway calls
the hook `billed_parts` of the compatibility flag (plugin of an API format). The hook yields the parts of the request's
body that are not billed as text. Everything else in the body counts as text.

- The default hook is `common_parts`. It finds files as most APIs write them.
- Only the value of a known field for files counts as a file. Any other base64 counts as text, because the model reads
  it as text.
- A hook for another API can use `FileForms`, which says how an API writes files. This example is for blocks with a key
  `picture`:

    FORMS = FileForms(turns=("messages",), members={"picture": lambda picture: [File("image", length(picture))]})

    def billed_parts(body):
        yield from FORMS.files(body)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypeVar

from gateway.contract.lazy_body import LazyBody

FileKind = Literal["image", "document", "packed", "audio", "video"]
"""The kind of a file. `packed` is a document in a compressed format, such as PDF. `document` is any other document."""

SEARCHES: Final = 10
"""Number of searches that an estimate assumes if the request sets no limit. Models hardly ever search more often."""
_PACKED: Final = ("pdf", "docx", "xlsx", "pptx", "officedocument", "opendocument")
"""Texts that occur in the media types and file names of compressed documents, such as PDF. Such a document has the kind
`packed`."""


class File(NamedTuple):
    """A file in a request. Its tokens are estimated from its kind and size.

    >>> File("image", 40_000).kind
    'image'
    """

    kind: FileKind
    size: int = 0
    """Number of bytes of base64 in the body. It is 0 if the body has only a URL or an id of the file."""


class Search(NamedTuple):
    """Searches, such as web searches, that the model may make while it answers. Their results are billed as input
    tokens.

    >>> Search(most=3).is_paid
    True
    """

    most: int = SEARCHES
    """The maximum number of searches."""
    is_paid: bool = True
    """True if the provider charges a fee for each search, in addition to the tokens of its results."""


class Fee(NamedTuple):
    """A fee in nanodollars for something other than tokens, such as running code.

    >>> Fee(30_000_000).nanodollars
    30000000
    """

    nanodollars: int


class Answers(NamedTuple):
    """The number of answers that the request asks for. The output limit applies to each answer.

    >>> Answers(3).number
    3
    """

    number: int


class AddedTokens(NamedTuple):
    """Input tokens that are not in the body, such as the instructions that a provider adds for tools.

    >>> AddedTokens(usual=0, most=1_000).most
    1000
    """

    usual: int
    """The typical number of tokens."""
    most: int
    """The number of tokens in the worst case. Hardly any call exceeds it."""


BilledPart = File | Search | Fee | Answers | AddedTokens
BilledParts = Callable[[Mapping[str, Any]], Iterable[BilledPart]]
"""A function that gets a decoded request body, and yields the parts of the body that are not billed as text."""
F = TypeVar("F", bound=BilledParts)
Read = Callable[[Any], Iterable[File]]

TOOL_INSTRUCTIONS: Final = AddedTokens(usual=0, most=1_000)
"""The tokens of the instructions that a provider adds to a request with tools.

`most` is the largest number in Anthropic's documentation of tool use.

>>> TOOL_INSTRUCTIONS.most
1000
"""


_TYPE: Final = re.compile(rb'"type"\s*:\s*"([^"]*)')
"""Pattern for the type of a block in JSON text."""
_PLAIN: Final = re.compile(r"\w*", re.ASCII)
"""Pattern for types and keys that a search finds in each body for which `Members.may_hide_names` is false."""
_NESTED: Final = (list, dict)
"""The types of the decoded JSON values in which files are searched."""


def _inner_content(block: Mapping[str, Any]) -> Iterable[Any]:
    return (block.get("content"),)


def lazy(function: F) -> F:
    """Mark a hook `billed_parts` that does not need a `dict`. Use this as a decorator.

    The hook then gets a read-only mapping, which decodes each value of the body when the value is first read. So a
    conversation without files is not decoded: `FileForms.files` searches its text for the types and keys of files.

    The hook must read the body only by `body[...]`, `body.get(...)` and `in`. The function `inner` of its `FileForms`
    must return values of the body itself, and not values that it has made. `plugins check` compares the results with
    those for a `dict`.

    >>> @billing.lazy
    ... def billed_parts(body):
    ...     yield from billing.COMMON.files(body)
    >>> billing.is_lazy(billed_parts)
    True
    """
    vars(function)["is_lazy"] = True
    return function


def is_lazy(function: Any) -> bool:
    """Return whether a hook `billed_parts` was marked by `lazy`.

    >>> billing.is_lazy(billing.common_parts), billing.is_lazy(print)
    (True, False)
    """
    return getattr(function, "is_lazy", False) is True


@dataclass(frozen=True, slots=True)
class FileForms:
    """The ways in which an API writes files in its messages: the types of blocks and the keys that contain files.

    >>> forms = FileForms(turns=("messages",), members={"picture": lambda picture: [File("image", length(picture))]})
    >>> list(forms.files({"messages": [{"content": [{"picture": "iVBORw0K"}]}]}))
    [File(kind='image', size=8)]
    """

    turns: tuple[str, ...]
    """Keys of the body in which files are searched, such as `messages` and `system`."""
    types: Mapping[str, Read] = field(default_factory=dict)
    """A function for each `type` of block that contains files. It gets a block and yields the block's files."""
    members: Mapping[str, Read] = field(default_factory=dict)
    """Functions by the key under which blocks have files. Each function gets the key's value and yields the files."""
    inner: Callable[[Mapping[str, Any]], Iterable[Any]] = _inner_content
    """A function that gets a message or a block, and yields the values in which further blocks are searched. By
    default, this is the value of `content`.
    """

    def files(self, body: Mapping[str, Any]) -> Iterator[File]:
        """Yield the files in the messages of a decoded body. Their order is not defined."""
        names, types, inner = self.members.keys(), self.types, self.inner
        level: list[Any] = [body[name] for name in self.turns if name in body and self._may_be_in(body, name)]
        while level:
            value = level.pop()
            if isinstance(value, dict):
                if isinstance(kind := value.get("type"), str) and kind in types:
                    yield from types[kind](value)
                if names and not names.isdisjoint(value):
                    for name in names & value.keys():
                        yield from self.members[name](value[name])
                level += [content for content in inner(value) if content and isinstance(content, _NESTED)]
            elif isinstance(value, list):
                level.extend(value)

    def _may_be_in(self, body: Mapping[str, Any], name: str) -> bool:
        """Return False if a search in the JSON text of the value under `name` shows that it has no files.

        The search takes a third of the time of decoding the text and visiting each block.
        """
        if not isinstance(body, LazyBody) or _PLAIN.fullmatch("".join((*self.types, *self.members))) is None:
            return True
        if body.may_hide_names():
            return True
        text = body.undecoded(name)
        kinds = {kind.decode("utf-8", "replace") for kind in _TYPE.findall(text)} if self.types else set[str]()
        return not kinds.isdisjoint(self.types) or any(b'"%b"' % member.encode() in text for member in self.members)


@lazy
def common_parts(body: Mapping[str, Any]) -> Iterator[BilledPart]:
    """Yield the files of a body, as most APIs write them (`COMMON`). Yield `TOOL_INSTRUCTIONS` if the body has tools.

    A provider adds instructions to a request with tools, and bills the tokens of these instructions.

    >>> link = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    >>> list(billing.common_parts({"messages": [{"role": "user", "content": [link]}]}))
    [File(kind='image', size=0)]
    """
    yield from COMMON.files(body)
    if body.get("tools"):
        yield TOOL_INSTRUCTIONS


def tools_of(holder: Any) -> list[Mapping[str, Any]]:
    """Return the objects in the list `holder["tools"]`, or [] if there is no such list.

    >>> billing.tools_of({"tools": [{"type": "web_search"}, 5]}), billing.tools_of(None)
    ([{'type': 'web_search'}], [])
    """
    tools = holder.get("tools") if isinstance(holder, Mapping) else None
    return [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []


def sourced(block: Mapping[str, Any]) -> Iterator[File]:
    """Yield the file in the `source` of an `image` or `document` block. A source with plain text is no file.

    >>> list(billing.sourced({"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}}))
    [File(kind='image', size=0)]
    """
    source, kind = block.get("source"), block.get("type")
    if not isinstance(source, dict):
        return
    if source.get("type") == "base64":
        yield File(
            document(str(source.get("media_type"))) if kind == "document" else "image", length(source.get("data"))
        )
    elif str(source.get("type")) in {"url", "file"}:
        yield File("document" if kind == "document" else "image")


def linked(kind: FileKind, link: Any, block: Mapping[str, Any]) -> Iterator[File]:
    """Yield the file to which a block refers.

    `link` is the block's value for the file: a URL, a data URL, or an object that has a URL, base64 or a file id. If
    `link` is neither a string nor an object, the URL, base64 or file id is read from `block`.

    >>> list(billing.linked("image", {"url": "data:image/png;base64,iVBORw0K"}, {}))
    [File(kind='image', size=30)]
    """
    inner: Mapping[str, Any] = link if isinstance(link, dict) else block
    data = link if isinstance(link, str) else inner.get("url") or inner.get("file_data")
    if isinstance(data, str) and not data.startswith(("http:", "https:")):
        named = f"{data[:100]} {inner.get('filename', '')}"
        yield File(document(named) if kind == "document" else kind, len(data))
    elif data or inner.get("file_id") or inner.get("file_url"):
        yield File(kind)


def sounded(block: Mapping[str, Any]) -> Iterator[File]:
    """Yield the file of an `input_audio` block.

    >>> list(billing.sounded({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}))
    [File(kind='audio', size=8)]
    """
    audio = block.get("input_audio")
    yield File("audio", length(audio.get("data") if isinstance(audio, dict) else block.get("data")))


def kind_of(media_type: str) -> FileKind:
    """Return the kind of a file with this media type. A video has the kind "audio" too, because both cost about the
    same.

    A document in a compressed format, such as PDF, has the kind "packed".

    >>> billing.kind_of("image/png"), billing.kind_of("application/pdf")
    ('image', 'packed')
    """
    if media_type.startswith("image/"):
        return "image"
    if media_type.startswith(("audio/", "video/")):
        return "audio"
    return document(media_type)


def document(named: str) -> Literal["document", "packed"]:
    """Return "packed" for a document in a compressed format, such as PDF or DOCX.

    Return "document" for any other one, which counts as plain text. `named` contains the document's media type, file
    name or file extension.

    >>> billing.document("report.docx"), billing.document("text/csv")
    ('packed', 'document')
    """
    return "packed" if any(word in named.lower() for word in _PACKED) else "document"


def length(data: Any) -> int:
    """Return the length of a base64 string, or 0 if `data` is not a string.

    >>> billing.length("iVBORw0K"), billing.length(None)
    (8, 0)
    """
    return len(data) if isinstance(data, str) else 0


def _content_of(block: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the `content` of a block. If the `source` of a document block contains blocks, also yield the `source`."""
    yield block.get("content")
    source = block.get("source")
    if block.get("type") == "document" and isinstance(source, dict) and source.get("type") == "content":
        yield source


COMMON: Final = FileForms(
    turns=("messages", "system"),
    types={
        "image": sourced,
        "document": sourced,
        "image_url": lambda block: linked("image", block.get("image_url"), block),
        "file": lambda block: linked("document", block.get("file"), block),
        "document_url": lambda block: linked("document", block.get("document_url"), block),
        "video_url": lambda block: linked("video", block.get("video_url"), block),
        "audio_url": lambda block: linked("audio", block.get("audio_url"), block),
        "input_audio": sounded,
    },
    inner=_content_of,
)
"""The types of blocks that have files in most APIs.

Sources: the API references of OpenAI and Anthropic, of Mistral (`document_url`) and of vLLM (`video_url`, `audio_url`).

>>> sorted(billing.COMMON.types)[:4]
['audio_url', 'document', 'document_url', 'file']
"""
