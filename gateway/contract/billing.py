"""The parts of a request that are not billed by the length of their text, such as images and web searches.

- Quotas reserve the possible cost of a call before it is sent. For this, a function `billed_parts` yields these parts
  of the request's body. Everything else in the body counts as text.
- A file is recognised only where an API has files. Anywhere else, text that looks like base64 counts as text, because
  the model reads it as text.
- The plugin of the client's API format has the function. The default is `common_parts`, which reads the most common
  forms. A function for other forms can search the messages with `FileForms`:

    FORMS = FileForms(turns=("messages",), members={"picture": lambda picture: [File("image", length(picture))]})

    def billed_parts(body):
        yield from FORMS.files(body)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

FileKind = Literal["image", "document", "packed", "audio", "video"]
"""Kinds of files. `packed` is a document with compressed text, such as a PDF or a DOCX. A `document` is plain text."""

SEARCHES: Final = 10
"""Number of searches that is assumed if the request sets no limit. Models hardly ever make more in one call."""
_PACKED: Final = ("pdf", "docx", "xlsx", "pptx", "officedocument", "opendocument")
"""Words in the formats, types and file names by which packed documents are recognised."""


class File(NamedTuple):
    """A file in a request. Its base64 is not billed as text. Its tokens are estimated from its kind and its size.

    >>> File("image", 40_000).kind
    'image'
    """

    kind: FileKind
    size: int = 0
    """Number of bytes of base64 in the body; 0 for a file that is named by a URL or an id."""


class Search(NamedTuple):
    """Searches that the model may make. Their results are billed as input tokens.

    >>> Search(most=3).is_paid
    True
    """

    most: int = SEARCHES
    """Maximum number of searches."""
    is_paid: bool = True
    """Whether the provider charges a fee for each search, in addition to the tokens of the results."""


class Fee(NamedTuple):
    """A fee for other work of the provider, such as running code.

    >>> Fee(30_000_000).nanodollars
    30000000
    """

    nanodollars: int


class Answers(NamedTuple):
    """A number of answers that the request asks for. Each may be as long as the output limit allows.

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
    """A number of tokens that is hardly ever exceeded."""


BilledPart = File | Search | Fee | Answers | AddedTokens
BilledParts = Callable[[Mapping[str, Any]], Iterable[BilledPart]]
"""A function that yields the parts of a decoded body that are not billed as text."""
Read = Callable[[Any], Iterable[File]]

TOOL_INSTRUCTIONS: Final = AddedTokens(usual=0, most=1_000)
"""The instructions that a provider adds to a request with tools. The number is the maximum on Anthropic's page on tool
use.

>>> TOOL_INSTRUCTIONS.most
1000
"""


def _inner_content(block: Mapping[str, Any]) -> Iterable[Any]:
    return (block.get("content"),)


@dataclass(frozen=True, slots=True)
class FileForms:
    """The forms of files in the messages of an API.

    >>> forms = FileForms(turns=("messages",), members={"picture": lambda picture: [File("image", length(picture))]})
    >>> list(forms.files({"messages": [{"content": [{"picture": "iVBORw0K"}]}]}))
    [File(kind='image', size=8)]
    """

    turns: tuple[str, ...]
    """Keys of the body under which the messages are, such as `messages` and `system`."""
    types: Mapping[str, Read] = field(default_factory=dict)
    """A function for each `type` of block that can have a file. It gets the block and yields its files."""
    members: Mapping[str, Read] = field(default_factory=dict)
    """A function for each key of a block that can have a file. It gets the value of the key and yields its files."""
    inner: Callable[[Mapping[str, Any]], Iterable[Any]] = _inner_content
    """A function that returns the content of a message or a block. The default returns the value of the key `content`.
    """

    def files(self, body: Mapping[str, Any]) -> Iterator[File]:
        """Yield the files in the messages of a decoded body, in no particular order."""
        names, types, inner = self.members.keys(), self.types, self.inner
        level: list[Any] = [body[name] for name in self.turns if name in body]
        while level:
            value = level.pop()
            if isinstance(value, list):
                level.extend(value)
            elif isinstance(value, dict):
                if isinstance(kind := value.get("type"), str) and kind in types:
                    yield from types[kind](value)
                if not names.isdisjoint(value):
                    for name in names & value.keys():
                        yield from self.members[name](value[name])
                level.extend([content for content in inner(value) if content and isinstance(content, list | dict)])


def common_parts(body: Mapping[str, Any]) -> Iterator[BilledPart]:
    """Yield the files in the most common forms and, if the body has tools, `TOOL_INSTRUCTIONS`.

    >>> link = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    >>> list(billing.common_parts({"messages": [{"role": "user", "content": [link]}]}))
    [File(kind='image', size=0)]
    """
    yield from COMMON.files(body)
    if body.get("tools"):
        yield TOOL_INSTRUCTIONS


def tools_of(holder: Any) -> list[Mapping[str, Any]]:
    """Return the objects in the list `holder["tools"]`; [] if there is no such list.

    >>> billing.tools_of({"tools": [{"type": "web_search"}, 5]}), billing.tools_of(None)
    ([{'type': 'web_search'}], [])
    """
    tools = holder.get("tools") if isinstance(holder, dict) else None
    return [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []


def sourced(block: Mapping[str, Any]) -> Iterator[File]:
    """Yield the file of an `image` or `document` block, which has a `source`. A source of the type `text` has no file.

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
    """Yield the file that `link` names. `link` is a URL, a data URL, or an object with a URL, base64 or a file id.

    If `link` is anything else, the same keys of `block` are read instead.

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
    """Return the kind of a file with this media type. For a video, this is "audio", because both cost alike.

    >>> billing.kind_of("image/png"), billing.kind_of("application/pdf")
    ('image', 'packed')
    """
    if media_type.startswith("image/"):
        return "image"
    if media_type.startswith(("audio/", "video/")):
        return "audio"
    return document(media_type)


def document(named: str) -> Literal["document", "packed"]:
    """Return the kind of a document. `named` is a text that contains its format, media type or file name.

    >>> billing.document("report.docx"), billing.document("text/csv")
    ('packed', 'document')
    """
    return "packed" if any(word in named.lower() for word in _PACKED) else "document"


def length(data: Any) -> int:
    """Return the length of a base64 string; 0 for a JSON value of another type.

    >>> billing.length("iVBORw0K"), billing.length(None)
    (8, 0)
    """
    return len(data) if isinstance(data, str) else 0


def _content_of(block: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the `content` of a block. Also yield the `source` of a document block if the source has blocks."""
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
"""The forms of files that most APIs with `messages` have in common.

Sources: the API references of OpenAI and Anthropic, of Mistral (`document_url`) and of vLLM (`video_url`, `audio_url`).

>>> sorted(billing.COMMON.types)[:4]
['audio_url', 'document', 'document_url', 'file']
"""
