"""Functions that read a Converse body for the rules: its messages, its tools, and its content blocks with their paths.

They do not check types, because `testkit/judge.py` has accepted the body.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from gateway.testkit.rules.common import Block, Body


class Placed(NamedTuple):
    """A content block with its path."""

    at: str
    """The path of the block in the body, such as `messages.0.content.1`."""
    role: str
    """The role of the message."""
    kind: str
    """The block's only key, such as `toolUse`. `value` is the value of this key."""
    value: Any


def messages(body: Body) -> Sequence[Block]:
    return body.get("messages") or ()


def kind_of(block: Block) -> str:
    return next(name for name, value in block.items() if value is not None)


def content(message: Block, number: int) -> list[Placed]:
    return [
        Placed(f"messages.{number}.content.{index}", message["role"], kind_of(block), block[kind_of(block)])
        for index, block in enumerate(message["content"])
    ]


def placed(body: Body) -> Iterator[Placed]:
    for number, message in enumerate(messages(body)):
        yield from content(message, number)


def in_results(body: Body) -> Iterator[Placed]:
    """Yield the content blocks inside tool results."""
    for at, role, kind, value in placed(body):
        if kind == "toolResult":
            for index, block in enumerate(value["content"]):
                yield Placed(f"{at}.toolResult.content.{index}", role, kind_of(block), block[kind_of(block)])


def tools(body: Body) -> Sequence[Block]:
    return (body.get("toolConfig") or {}).get("tools") or ()


def extra_fields(body: Body) -> Body:
    fields = body.get("additionalModelRequestFields")
    return fields if isinstance(fields, dict) else {}
