"""Places of text in requests, replies and events.

Compatibility flags (plugins of API formats) define these places, so that filters need not know dialects.

A flag's function `places(event)` yields a `Place` for each text of an event's payload. A whole request is an event of
the kind `REQUEST`, and a whole reply one of the kind `REPLY`. The smallest function, for a stream of `{"text": "…"}`,
is:

    def places(event):
        yield Place(("text",))

The texts of a stream that belong together form a *block*, such as one answer, or the arguments of one tool call. For an
event that ends a block, `places` also yields `End(block)`. A block without an `End` ends with the stream.

The name of a block may be a tuple. `End("a")` also ends the block `("a", 0)`. `End(("a", 0))` also ends `("a", 0, 1)`.

One event may end the thinking and begin the answer. Then `places` yields the `End` of the thinking before the `Place`
of the answer. Otherwise, a filter that holds the last words of the thinking would delay the answer.

Some values repeat a text in a form that no filter can change, such as the log probabilities of its tokens. `places`
yields a `Copy` for each such value. If a filter changes the text, the gateway empties the value.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final, Literal

import msgspec
import orjson

from gateway.contract.errors import BadFrame
from gateway.contract.messages import Event

REQUEST: Final = "request"
"""The kind of the event whose payload is a client's whole request."""
REPLY: Final = "reply"
"""The kind of the event whose payload is a whole reply."""

Kind = Literal["text", "thinking", "arguments"]
"""The kind of a text: an answer or prompt (`text`), a model's thinking, or the arguments of a tool call as JSON."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """The place of one text in a JSON value.

    >>> Place(("choices", 0, "delta", "content"), block=("choice", 0))
    Place(path=('choices', 0, 'delta', 'content'), kind='text', block=('choice', 0), repeats=False, role='')
    """

    path: tuple[str | int, ...]
    """The names and indexes that lead to the text, such as `("choices", 0, "delta", "content")`.

    If the value is not a string, such as the arguments of a call in an unstreamed reply, the text is its JSON."""
    kind: Kind = "text"
    block: Hashable = ""
    """The block of a stream to which the text belongs. A text continues the earlier texts of the same block."""
    repeats: bool = False
    """Whether this text repeats a whole block that earlier events had in pieces.

    An example is OpenAI's event `response.output_text.done`."""
    role: str = ""
    """The author of a text in a request: `system`, `user`, `assistant` or `tool`; "" if it is none of them."""


class End(msgspec.Struct, frozen=True, gc=False):
    """The end of a block: no later event continues it, so that a filter need not hold its last words any more.

    >>> End(("choice", 0)).block
    ('choice', 0)
    """

    block: Hashable = ""


class Copy(msgspec.Struct, frozen=True, gc=False):
    """The place of a value that repeats text in another form, such as token by token with log probabilities.

    If a filter has changed or held back text of this event or an earlier one, the gateway empties the value. A list
    becomes `[]`, and any other value becomes null.

    >>> Copy(("choices", 0, "logprobs")).path
    ('choices', 0, 'logprobs')
    """

    path: tuple[str | int, ...]
    """The names and indexes that lead to the value, as in `Place.path`."""


Places = Callable[[Event], Iterable[Place | End | Copy]]
"""A compatibility flag's function `places`."""


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
    """Return the value at a place. Raises `LookupError` or `TypeError` if there is none.

    >>> places.value_at({"choices": [{"text": "hi"}]}, ("choices", 0, "text"))
    'hi'
    """
    for step in path:
        data = data[step]
    return data


def json_text(value: Any) -> str:
    """Return the text of a value that is not a string: its JSON.

    >>> places.json_text({"city": "Rome"})
    '{"city":"Rome"}'
    """
    return json_bytes(value).decode()


def json_bytes(value: Any) -> bytes:
    """Return a decoded value as JSON, whatever its depth.

    orjson reads up to 1,024 levels of lists and objects, but writes only 254. So msgspec encodes deeper values.

    >>> places.json_bytes({"city": "Rome"})
    b'{"city":"Rome"}'
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return msgspec.json.encode(value)


def text_at(data: Any, path: Sequence[str | int]) -> str:
    """Return the text at a place. Raises `LookupError` or `TypeError` if there is none.

    >>> places.text_at({"arguments": {"city": "Rome"}}, ("arguments",))
    '{"city":"Rome"}'
    """
    value = value_at(data, path)
    return value if isinstance(value, str) else json_text(value)


def put_text(data: Any, path: Sequence[str | int], text: str) -> None:
    """Replace the text at a place. If the old value is no string, `text` must be JSON. Raises `ValueError` otherwise.

    >>> data = {"arguments": {"city": "Rome"}}
    >>> places.put_text(data, ("arguments",), '{"city": "Oslo"}')
    >>> data
    {'arguments': {'city': 'Oslo'}}
    """
    parent, last = value_at(data, path[:-1]), path[-1]
    parent[last] = text if isinstance(parent[last], str) else orjson.loads(text)


def put_texts(data: Any, changes: Iterable[tuple[Sequence[str | int], str]]) -> Any:
    """Return a copy of a JSON value in which some texts are replaced. It shares the unchanged parts with the original.

    Raises the exceptions of `put_text`.

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
    """Replace the value at a place by an empty one: `[]` for a list, and null for anything else.

    >>> data = {"text": "hi", "logprobs": [-0.1]}
    >>> places.empty(data, ("logprobs",))
    >>> data
    {'text': 'hi', 'logprobs': []}
    """
    parent, last = value_at(data, path[:-1]), path[-1]
    parent[last] = [] if isinstance(parent[last], list) else None


def output_bytes(places: Places, event: Event) -> int:
    """Return the number of bytes of the texts in an event. Texts that repeat earlier events do not count.

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
