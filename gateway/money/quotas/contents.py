"""The parts of a request's body that are not billed by the length of their text: images, files, and tools that the
provider runs.

- Media are recognised only in the content of messages and of tool results, where dialects have them. Anywhere else,
  text that looks like base64 counts as text, because the model reads it as text.
- Names of members are compared after decoding, so that escapes in a name cannot hide a file.
- Documents are read as text by the provider, whatever their encoding is. Their tokens are estimated from their size.

The JSON forms of Messages, Converse, Chat Completions, Responses and Gemini are in one table, and are recognised in
every body. This is safe, because a provider refuses or ignores the form of another dialect and does not read it as
text. `estimate.py` adds the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Kind = Literal["image", "document", "packed", "audio", "video"]
"""Kinds of files. A packed document, such as a PDF or a DOCX, has compressed text. Other documents are plain text."""

IMAGE_TOKENS: Final = 5_000
"""Tokens assumed for an image, and the minimum for any other file. Anthropic's largest image has 4,784 tokens."""
REMOTE_DOCUMENT_TOKENS: Final = 100_000
"""Tokens assumed for a document that is given by a URL or an id, and for a conversation that the provider has stored.
Their size is unknown; the number is half of a common context window."""
_MOST: Final[Mapping[Kind, tuple[int, int, int]]] = {
    # a PDF of 17 KB can have 28,000 tokens, and a page needs few bytes; Claude reads up to 600 pages
    "packed": (1, 100_000, 600_000),
    "document": (2, IMAGE_TOKENS, 1_000_000),
    # Gemini has 32 tokens for a second of sound and 290 of video; the most compressed second has 750 and 5,000 bytes
    "audio": (20, IMAGE_TOKENS, 1_000_000),
    "video": (20, IMAGE_TOKENS, 1_000_000),
}
"""Numbers by which the tokens of a file are hardly ever underestimated, by the kind of the file: half bytes of the file
per token, minimum and maximum number of tokens.
"""
_USUAL: Final[Mapping[Kind, tuple[int, int, int]]] = {
    # a scanned page has 100 KB and 2,500 tokens
    "packed": (80, IMAGE_TOKENS, 600_000),
    "document": (8, IMAGE_TOKENS, 1_000_000),
    "audio": (1_000, IMAGE_TOKENS, 1_000_000),
    "video": (1_000, IMAGE_TOKENS, 1_000_000),
}
"""Numbers for a typical file, by the kind of the file: half bytes per token, minimum and maximum number of tokens."""
_PACKED: Final = ("pdf", "docx", "xlsx", "pptx", "officedocument", "opendocument")
"""Words in the formats, types and file names by which packed documents are recognised."""

_TURNS: Final = ("messages", "input", "system", "contents", "systemInstruction", "system_instruction")
"""Top-level members that have the content of messages."""
_NESTED: Final = ("content", "parts", "output")
"""Members with content in a message, an item or a tool's result."""
_STORED: Final = ("previous_response_id", "conversation")
"""Top-level members of a Responses request that name a conversation stored by the provider."""
_CONVERSE: Final[Mapping[str, Kind]] = {"image": "image", "document": "document", "video": "video", "audio": "audio"}
_INLINE: Final = ("inlineData", "inline_data")
_FILE_MEMBERS: Final = frozenset({*_CONVERSE, *_INLINE})
"""Names of members that have a file. A block has one of these members, or a `type` in `_FILE_TYPES`."""
_FILE_TYPES: Final = frozenset(
    {
        "image", "document", "image_url", "input_image", "computer_screenshot", "file", "input_file", "input_audio",
        "image_generation_call",
    }
)  # fmt: skip
"""Values of `type` of blocks that contain a file. `_media` reads these blocks."""

SEARCHES: Final = 10
"""Number of searches assumed for a web search without a limit. Models hardly ever make more in one call."""
MAX_SEARCHES: Final = 1_000
"""Maximum number of searches of a tool in the estimate. A higher `max_uses` counts as this number."""
SEARCH_TOKENS: Final = 10_000
"""Number of tokens in the results of one search. They are charged as input, in addition to the search's fee."""
MAX_ANSWERS: Final = 128
"""Maximum number of answers (`n`) in a request of Chat Completions."""
_FEES: Final[Mapping[str, int]] = {
    "code_interpreter": 30_000_000,
    "file_search": 2_500_000,
    "image_generation": 250_000_000,
}
"""Fees in nanodollars of OpenAI's tools: for a container, for a search in files, and for the most expensive image of
gpt-image-1 (platform.openai.com/docs/pricing)."""
TOOLS_TOKENS: Final = 1_000
"""Number of tokens assumed for the instructions that a provider adds to a request with tools.

It is the maximum on Anthropic's page on tool use."""
_SEARCHING: Final = ("web_search", "web_fetch", "googleSearch", "google_search", "nova_grounding")
"""Beginnings of the names of tools that search or read the web."""


@dataclass(slots=True)
class Contents:
    """The parts of a body that are not text."""

    size: int = 0
    """Number of bytes of the body that are not text, because they are base64 of media."""
    usual: int = 0
    """Typical number of tokens of the media and of the tools' results."""
    most: int = 0
    """Number of tokens that the media and the tools' results hardly ever exceed."""
    searches: int = 0
    """Number of searches that the provider may charge for."""
    fees: int = 0
    """Fees in nanodollars for other tools that the provider runs."""
    answers: int = 1
    """Number of answers that the request asks for."""

    def add(self, kind: Kind, size: int) -> None:
        """Add a file with `size` bytes of base64; 0 for a file that is named by a URL or an id."""
        self.size += size
        if kind == "image":
            usual = most = IMAGE_TOKENS
        elif not size:
            usual = most = REMOTE_DOCUMENT_TOKENS
        else:
            usual, most = (_tokens(size * 3 // 4, *table[kind]) for table in (_USUAL, _MOST))
        self.usual += usual
        self.most += most


def _tokens(size: int, half_bytes: int, least: int, most: int) -> int:
    return min(max(least, 2 * size // half_bytes), most)


def _document(named: str) -> Kind:
    """Return the kind of a document. `named` is text with its format, media type or file name."""
    return "packed" if any(word in named.lower() for word in _PACKED) else "document"


def contents_of(body: Mapping[str, Any]) -> Contents:
    """Return the parts of a decoded body that are not text."""
    contents = Contents()
    level: list[Any] = [body[name] for name in _TURNS if name in body]
    while level:
        value = level.pop()
        if isinstance(value, list):
            level.extend(value)
        elif isinstance(value, dict):
            # most blocks are text, and a look at the names costs a third of asking for each kind of file
            if not _FILE_MEMBERS.isdisjoint(value) or (
                isinstance(kind := value.get("type"), str) and kind in _FILE_TYPES
            ):
                for file, size in _media(value):
                    contents.add(file, size)
            level.extend(_inner(value))
    if isinstance(image := body.get("inputImage"), str):
        contents.add("image", len(image))
    if any(body.get(name) for name in _STORED):
        contents.usual += REMOTE_DOCUMENT_TOKENS
        contents.most += REMOTE_DOCUMENT_TOKENS
    answers = body.get("n")
    contents.answers = min(max(answers, 1), MAX_ANSWERS) if isinstance(answers, int) else 1
    _add_tools(contents, body)
    return contents


def _inner(block: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the content inside a message, an item or a block."""
    for name in _NESTED:
        if isinstance(inner := block.get(name), list | dict):
            yield inner
    for name in ("toolResult", "guardContent"):
        if isinstance(inner := block.get(name), dict):
            yield inner
    source = block.get("source")
    if block.get("type") == "document" and isinstance(source, dict) and source.get("type") == "content":
        yield source


def _media(block: Mapping[str, Any]) -> Iterator[tuple[Kind, int]]:
    """Yield each file of one content block as (kind, size in base64).

    The size is 0 if the file is given by URL or id.
    """
    match block.get("type"):
        case "image" | "document" as kind:
            yield from _sourced(kind, block.get("source"))
        case "image_url" | "input_image" | "computer_screenshot":
            yield from _linked("image", block.get("image_url") or block.get("file_id"))
        case "file" | "input_file":
            yield from _linked("document", block.get("file"), block)
        case "input_audio":
            audio = block.get("input_audio")
            yield "audio", _length(audio.get("data") if isinstance(audio, dict) else block.get("data"))
        case "image_generation_call":
            yield "image", _length(block.get("result"))
    for name, converse in _CONVERSE.items():
        inner = block.get(name)
        if isinstance(inner, dict) and isinstance(source := inner.get("source"), dict):
            yield from _converse(converse, inner, source)
    for name in _INLINE:
        if isinstance(inner := block.get(name), dict):
            mime = str(inner.get("mimeType") or inner.get("mime_type"))
            yield _kind_of(mime), _length(inner.get("data"))


def _sourced(kind: Literal["image", "document"], source: Any) -> Iterator[tuple[Kind, int]]:
    """Yield the file of a Messages block. A block whose source is text (`text` or `content`) has no file."""
    if not isinstance(source, dict):
        return
    if source.get("type") == "base64":
        yield _document(str(source.get("media_type"))) if kind == "document" else kind, _length(source.get("data"))
    elif str(source.get("type")) in {"url", "file"}:
        yield kind, 0


def _linked(kind: Kind, link: Any, block: Mapping[str, Any] | None = None) -> Iterator[tuple[Kind, int]]:
    """Yield the file of a Chat Completions or Responses block, which is in a data URL or is given by a URL or an id."""
    inner: Mapping[str, Any] = link if isinstance(link, dict) else block or {}
    data = link if isinstance(link, str) else inner.get("url") or inner.get("file_data")
    if isinstance(data, str) and not data.startswith(("http:", "https:")):
        named = f"{data[:100]} {inner.get('filename', '')}"
        yield _document(named) if kind == "document" else kind, len(data)
    elif data or inner.get("file_id") or inner.get("file_url"):
        yield kind, 0


def _converse(kind: Kind, inner: Mapping[str, Any], source: Mapping[str, Any]) -> Iterator[tuple[Kind, int]]:
    """Yield the file of a Converse block. A document whose source is text (`text` or `content`) has no file."""
    if isinstance(data := source.get("bytes"), str):
        yield _document(str(inner.get("format"))) if kind == "document" else kind, len(data)
    elif "s3Location" in source:
        yield kind, 0


def _kind_of(mime: str) -> Kind:
    if mime.startswith("image/"):
        return "image"
    if mime.startswith(("audio/", "video/")):
        return "audio"
    return _document(mime)


def _length(data: Any) -> int:
    return len(data) if isinstance(data, str) else 0


def _add_tools(contents: Contents, body: Mapping[str, Any]) -> None:
    """Add the fees of tools that the provider runs, and the tokens of the results of these tools."""
    most = body.get("max_tool_calls")
    limit = most if isinstance(most, int) and most > 0 else SEARCHES
    tools = list(_tools(body))
    contents.most += TOOLS_TOKENS if tools else 0
    for tool in tools:
        name = _tool_name(tool)
        if name.startswith(_SEARCHING):
            uses = tool.get("max_uses")
            count = min(uses, MAX_SEARCHES) if isinstance(uses, int) and uses > 0 else limit
            contents.searches += 0 if name.startswith("web_fetch") else count
            contents.usual += SEARCH_TOKENS
            contents.most += count * SEARCH_TOKENS
        elif name in _FEES:
            contents.fees += _FEES[name] * (limit if name == "file_search" else 1)
    if body.get("web_search_options") is not None:
        contents.searches += 1
        contents.most += SEARCH_TOKENS


def _tools(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    holders = [body, body.get("toolConfig"), body.get("additionalModelRequestFields")]
    for holder in holders:
        tools = holder.get("tools") if isinstance(holder, dict) else None
        yield from (tool for tool in (tools if isinstance(tools, list) else ()) if isinstance(tool, dict))


def _tool_name(tool: Mapping[str, Any]) -> str:
    """Return the name of a tool that the provider runs: the type, the name of a `systemTool`, or the first member."""
    if isinstance(kind := tool.get("type"), str):
        return kind
    system = tool.get("systemTool")
    if isinstance(system, dict):
        return str(system.get("name"))
    return next(iter(tool), "")
