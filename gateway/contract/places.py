"""The paths of texts in the JSON of requests, replies and events, so that filters can read any API format.

A compatibility flag (the plugin of one API format) has a function `places(event)`. It yields a `Place` for each text in
the event's payload. A request is an event of the kind `REQUEST`. An unstreamed reply is an event of the kind `REPLY`.
This function is for a stream of `{"text": "…"}`:

    def places(event):
        yield Place(("text",))

- In a stream, the texts that belong together form a block, such as one answer, or the arguments of one tool call. Each
  block has a name (`Place.block`).
- If an event ends a block, `places` also yields `End(name)`. A block without an `End` ends with the stream.
- A name may be a tuple. An `End` also ends all blocks whose names begin with its own name: `End("a")` ends the block
  `("a", 0)`, and `End(("a", 0))` ends the block `("a", 0, 1)`.
- If one event ends a block and begins the next one, the `End` comes first. So the text that a filter holds back reaches
  the client before the text of the next block.
- Some values repeat a text in another form, such as log probabilities of its tokens. For such a value, `places` yields
  a `Copy`. If a filter changes the text, the gateway empties the value.

Instead of yielding, `places` may return a tuple. This is faster, because the tuple can be a constant of the plugin. If
two events differ only in their texts, the gateway may use the tuple of the first one for both. So a tuple must not
depend on the texts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final, Literal

import msgspec
import orjson

from gateway.contract.errors import BadFrame
from gateway.contract.messages import Event

REQUEST: Final = "request"
"""The kind of an event whose payload is a client's whole request."""
REPLY: Final = "reply"
"""The kind of an event whose payload is a whole reply."""

Kind = Literal["text", "thinking", "arguments"]
"""The kind of a text: an answer or a prompt (`text`), a model's thinking, or the JSON of tool arguments."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """The path of one text in a JSON value, with the facts about the text that filters need.

    >>> Place(("choices", 0, "delta", "content"), block=("choice", 0))
    Place(path=('choices', 0, 'delta', 'content'), kind='text', block=('choice', 0), repeats=False, role='')
    """

    path: tuple[str | int, ...]
    """The keys and indexes that lead to the text, such as `("choices", 0, "delta", "content")`.

    The value at the path may also be an object, such as the arguments of a tool call. Then the text is the object's
    JSON.
    """
    kind: Kind = "text"
    block: Hashable = ""
    """The name of the text's block. A block is a sequence of texts in a stream that belong together, such as one
    answer.
    """
    repeats: bool = False
    """True if the text repeats all earlier texts of its block, as in OpenAI's event `response.output_text.done`."""
    role: str = ""
    """The author of a text in a request: `system`, `user`, `assistant` or `tool`. It is "" for any other text."""


class End(msgspec.Struct, frozen=True, gc=False):
    """The end of a block (a sequence of texts in a stream, `Place.block`). No later event has a text of this block.

    >>> End(("choice", 0)).block
    ('choice', 0)
    """

    block: Hashable = ""


class Copy(msgspec.Struct, frozen=True, gc=False):
    """The path of a value that repeats a text in another form, such as log probabilities of its tokens.

    The gateway empties the value if a filter changes the text or holds it back, in this event or an earlier one. A list
    becomes `[]`, and any other value becomes null.

    >>> Copy(("choices", 0, "logprobs")).path
    ('choices', 0, 'logprobs')
    """

    path: tuple[str | int, ...]
    """The keys and indexes that lead to the value, as in `Place.path`."""


Places = Callable[[Event], Iterable[Place | End | Copy]]
"""The function `places` of a compatibility flag (plugin of an API format). It finds the texts in an event."""


class Text(msgspec.Struct, frozen=True, gc=False):
    """One text of a request.

    >>> asked.texts[0].role
    'user'
    """

    text: str
    kind: Kind = "text"
    role: str = ""
    """The author of the text, as in `Place.role`."""


def value_at(data: Any, path: Sequence[str | int]) -> Any:
    """Return the value at a path. Raises `LookupError` or `TypeError` if there is none.

    >>> places.value_at({"choices": [{"text": "hi"}]}, ("choices", 0, "text"))
    'hi'
    """
    for step in path:
        data = data[step]
    return data


def json_text(value: Any) -> str:
    """Return the JSON of a decoded value as text.

    >>> places.json_text({"city": "Rome"})
    '{"city":"Rome"}'
    """
    return json_bytes(value).decode()


def json_bytes(value: Any) -> bytes:
    """Return the JSON of a decoded value of any depth.

    orjson writes only 254 levels of lists and objects. msgspec writes deeper values.

    >>> places.json_bytes({"city": "Rome"})
    b'{"city":"Rome"}'
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return msgspec.json.encode(value)


def text_at(data: Any, path: Sequence[str | int]) -> str:
    """Return the text at a path. For a value that is not a string, return its JSON.

    Raises `LookupError` or `TypeError` if there is no value.

    >>> places.text_at({"arguments": {"city": "Rome"}}, ("arguments",))
    '{"city":"Rome"}'
    """
    value = value_at(data, path)
    return value if isinstance(value, str) else json_text(value)


def put_text(data: Any, path: Sequence[str | int], text: str) -> None:
    """Replace the text at a path. If the old value is not a string, `text` must be JSON.

    Raises `ValueError` if `text` must be JSON and is not.

    >>> data = {"arguments": {"city": "Rome"}}
    >>> places.put_text(data, ("arguments",), '{"city": "Oslo"}')
    >>> data
    {'arguments': {'city': 'Oslo'}}
    """
    parent, last = value_at(data, path[:-1]), path[-1]
    parent[last] = text if isinstance(parent[last], str) else orjson.loads(text)


def put_texts(data: Any, changes: Iterable[tuple[Sequence[str | int], str]]) -> Any:
    """Return a copy of a JSON value in which some texts are replaced. `changes` are pairs of a path and a new text.

    If an old value is not a string, its new text must be JSON. Raises `ValueError` if it is not. The copy shares its
    unchanged parts with the original.

    >>> places.put_texts({"a": "x", "b": ["y"]}, [(("b", 0), "z")])
    {'a': 'x', 'b': ['z']}
    """
    copies: dict[Sequence[str | int], Any] = {(): data.copy()}
    for path, text in changes:
        node = copies[()]
        for depth, step in enumerate(path[:-1], 1):
            if path[:depth] not in copies:
                copies[path[:depth]] = node[step] = node[step].copy()
            node = node[step]
        put_text(node, path[-1:], text)
    return copies[()]


def empty(data: Any, path: Sequence[str | int]) -> None:
    """Empty the value at a path: a list becomes `[]`, and any other value becomes null.

    >>> data = {"text": "hi", "logprobs": [-0.1]}
    >>> places.empty(data, ("logprobs",))
    >>> data
    {'text': 'hi', 'logprobs': []}
    """
    parent, last = value_at(data, path[:-1]), path[-1]
    parent[last] = [] if isinstance(parent[last], list) else None


def output_bytes(places: Places, event: Event) -> int:
    """Return the number of bytes of the texts in an event, without texts that repeat earlier ones (`Place.repeats`).

    >>> places.output_bytes(lambda event: [Place(("text",))], event("chunk", {"text": "hi"}))
    2
    """
    size = 0
    for place in places(event):
        if type(place) is Place and not place.repeats:
            try:
                size += len(text_at(event.data, place.path).encode("utf-8", "replace"))
            except (LookupError, TypeError):
                raise BadFrame("the provider's stream has an event without the text that its kind promises") from None
    return size
