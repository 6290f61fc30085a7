"""Keeps each beta of a Messages request together with the fields that need it: both are sent, or both are left out.

A beta is an Anthropic feature that must be requested by name.

- The file `betas.json` lists the fields of each beta (`features`).
- The provider refuses a field without its beta ("Extra inputs are not permitted"). So if a beta is left out, its fields
  are removed and reported as dropped.
- Some fields are essential: leaving them out would change the meaning of the request. The beta of an essential field is
  never left out.

The fields are in the body of a Messages or InvokeModel request, or in `additionalModelRequestFields` of Converse.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, Final

import msgspec

from gateway.contract.flag import Drop, Members, Settings, Target
from gateway_plugins.dialects.anthropic_messages import betas as messages_betas
from gateway_plugins.shared.fields import escape_step
from gateway_plugins.shared.lenient import mapping, sequence, text
from gateway_plugins.shared.members_in_place import EditedMembers
from gateway_plugins.shared.turns import NO_OUTPUT

Block = dict[str, Any]

_REFERENCE: Final = "tool_reference"
"""Type of a block in the result of a tool search. Each such block names one tool that the search found."""
_SEARCH: Final = "tool_search_tool"
"""Prefix of the names of Anthropic's tool-search tools."""


class Feature(msgspec.Struct, frozen=True):
    """A beta, with the fields, tool types, block types and edit types that need it."""

    beta: str
    also: tuple[str, ...] = ()
    """Other betas that make the provider accept the same fields. Any one of them can replace `beta`."""
    top: tuple[str, ...] = ()
    """Top-level fields of the request that need the beta."""
    thinking: tuple[str, ...] = ()
    """Fields of `thinking` that need the beta."""
    value: str = ""
    """Value that a field in `Feature.thinking` must have to need the beta. "" stands for any value."""
    tool: tuple[str, ...] = ()
    """Fields of a tool's definition that need the beta."""
    tool_types: tuple[str, ...] = ()
    """Types of tools that need the beta. Globs are allowed."""
    edits: tuple[str, ...] = ()
    """Types of edits in `context_management` that need the beta."""
    blocks: tuple[str, ...] = ()
    """Types of message blocks that need the beta."""
    message: tuple[str, ...] = ()
    """Fields of a message that need the beta."""
    cache: tuple[str, ...] = ()
    """Fields of `cache_control` that need the beta, on blocks and on tools."""
    essential: bool = False
    """True if leaving out the fields would change the meaning of the request."""
    only_with_member: bool = False
    """True if the beta must be sent only together with one of its fields, because a provider refuses the beta alone."""

    @property
    def betas(self) -> frozenset[str]:
        """The beta and its alternatives. The provider accepts the fields if the request has one of these betas."""
        return frozenset((self.beta, *self.also))

    @property
    def words(self) -> tuple[str, ...]:
        """Names of the fields that need the beta, as a provider's error message may contain them."""
        members = (*self.top, *self.thinking, *self.tool, *self.message, *self.cache)
        return (*members, "context_management") if self.edits else members


@cache
def features() -> tuple[Feature, ...]:
    """Return the rules in `betas.json` that name the fields of each beta."""
    return tuple(msgspec.convert(rule, Feature) for rule in messages_betas.features())


def complete(edited: EditedMembers, betas: list[str], target: Target, without: Collection[str], drop: Drop) -> None:
    """Make the betas and the fields of an InvokeModel request fit each other.

    `betas`, the list of betas to send, is changed. `without` are betas that Bedrock has refused before.

    - If the request has a field whose beta is not in `betas`, the beta is added. If InvokeModel does not accept the
      beta, the field is removed instead.
    - If the request has no field of a beta, and InvokeModel refuses this beta without its fields, the beta is removed
      (`Feature.only_with_member`).
    """
    missing = []
    for feature in features():
        has_members = any(True for _ in _members(edited, feature))
        if feature.only_with_member and feature.beta in betas and not has_members:
            betas.remove(feature.beta)
            drop(f"/{messages_betas.HEADER}/{feature.beta}")
        elif has_members and not feature.betas & {*betas}:
            options = target.options
            added = messages_betas.select_betas([feature.beta], "invoke", options, lambda _: None, without=without)
            betas += added
            missing += [] if added else [feature.beta]
    remove(edited, missing, betas, drop)


def remove(edited: EditedMembers, betas: Collection[str], sent: Collection[str], drop: Drop, at: str = "") -> None:
    """Remove the fields that need one of `betas`, and report each as dropped.

    A field stays if a beta in `sent`, the betas that will be sent, makes the provider accept the field. `at` is the
    JSON pointer of the object that has the fields.
    """
    for feature in features():
        if feature.essential or not feature.betas & {*betas} or feature.betas & {*sent}:
            continue
        for place, take_out in list(_members(edited, feature)):
            take_out()
            drop(at + place)
        if edited["tools"] == [] and edited["tool_choice"] is not None:
            edited.put("tool_choice", None)


def native_changes(
    top: Members, options: Settings, without: Collection[str], drop: Drop, at: str = ""
) -> dict[str, bytes | None]:
    """Return the changes that remove unwanted betas from a body, and the fields that need such betas.

    A beta is unwanted if the configuration drops it, or if the provider has refused it (`without`). `at` is the JSON
    pointer of the object whose fields are in `top`.
    """
    if not messages_betas.drops_any(options, without):
        return {}
    edited = EditedMembers(top)
    given = messages_betas.body_betas(top)
    sent = messages_betas.remove_dropped(given, options, drop, without=without)
    remove(edited, {*given, *without} - {*sent}, sent, drop, at)
    if sent != given:
        edited.put(messages_betas.MEMBER, sent)
    return edited.changes()


_Place = tuple[str, Callable[[], None]]
"""A pair: the JSON pointer of a field or block, and a function that removes the field or block from the decoded body.
"""


@cache
def _marks(feature: Feature) -> dict[str, list[bytes]]:
    """Return byte strings for a quick search: a field of the body that contains none of them need not be decoded.

    The strings under the keys `tools` and `messages` are for the field of the same name. The strings under `cache` are
    for every field that may have cache breakpoints.
    """
    return {
        "tools": [f'"{name}'.rstrip("*").encode() for name in (*feature.tool, *feature.tool_types)],
        "messages": [f'"{name}"'.encode() for name in (*feature.blocks, *feature.message)],
        "cache": [f'"{name}"'.encode() for name in feature.cache],
    }


def _members(edited: EditedMembers, feature: Feature) -> Iterator[_Place]:
    for name in feature.top:
        if edited.raw(name) not in (b"", b"null"):
            yield f"/{name}", lambda name=name: edited.put(name, None)  # type: ignore[misc]
    yield from _in_thinking(edited, feature)
    marks = _marks(feature)
    if any(mark in edited.raw("tools") for mark in marks["tools"]):
        yield from _in_tools(edited, feature)
    if feature.edits:
        yield from _in_edits(edited, feature)
    if feature.cache:
        yield from _in_breakpoints(edited, feature, marks["cache"])
    if any(mark in edited.raw("messages") for mark in marks["messages"]):
        yield from _in_messages(edited, feature)


def _in_breakpoints(edited: EditedMembers, feature: Feature, marks: Sequence[bytes]) -> Iterator[_Place]:
    """Yield the fields inside cache breakpoints (`cache_control`) that need the beta `feature`.

    `marks` are byte strings for a quick search. A top-level field of the body that contains none is not decoded.
    """
    for member in ("system", "messages", "tools"):
        if any(mark in edited.raw(member) for mark in marks):
            yield from _below(edited, member, edited[member], f"/{member}", feature)


def _below(edited: EditedMembers, member: str, value: Any, at: str, feature: Feature) -> Iterator[_Place]:
    for index, each in enumerate(map(mapping, sequence(value))):
        control = mapping(each.get("cache_control"))
        for name in feature.cache:
            if name in control:
                yield f"{at}/{index}/cache_control/{name}", _taking(edited, member, control, name)
        yield from _below(edited, member, each.get("content"), f"{at}/{index}/content", feature)


def _in_thinking(edited: EditedMembers, feature: Feature) -> Iterator[_Place]:
    inner = mapping(edited["thinking"]) if feature.thinking else {}
    for name in feature.thinking:
        if name in inner and inner[name] == (feature.value or inner[name]):
            yield f"/thinking/{name}", _taking(edited, "thinking", inner, name)


def _in_tools(edited: EditedMembers, feature: Feature) -> Iterator[_Place]:
    tools = edited["tools"]
    for index, tool in enumerate(map(mapping, sequence(tools))):
        if any(fnmatchcase(text(tool.get("type")), pattern) for pattern in feature.tool_types):
            yield f"/tools/{index}", _removing(edited, "tools", tools, tool)
        for name in feature.tool:
            if tool.get(name):
                yield f"/tools/{index}/{escape_step(name)}", _taking(edited, "tools", tool, name)


def _in_edits(edited: EditedMembers, feature: Feature) -> Iterator[_Place]:
    management = mapping(edited["context_management"])
    edits = management.get("edits")
    for index, edit in enumerate(map(mapping, sequence(edits))):
        if edit.get("type") in feature.edits:
            place = f"/context_management/edits/{index}"
            yield place, _removing(edited, "context_management", sequence(edits), edit)


def _in_messages(edited: EditedMembers, feature: Feature) -> Iterator[_Place]:
    for number, message in enumerate(map(mapping, sequence(edited["messages"]))):
        for name in feature.message:
            if message.get(name) is not None:
                yield f"/messages/{number}/{name}", _taking(edited, "messages", message, name)
        yield from _in_content(edited, message.get("content"), f"/messages/{number}/content", feature)


def _in_content(edited: EditedMembers, content: Any, at: str, feature: Feature) -> Iterator[_Place]:
    for index, block in enumerate(map(mapping, sequence(content))):
        here = f"{at}/{index}"
        if block.get("type") in feature.blocks or _is_search(block, feature):
            yield here, _replacing(edited, content, block)
        yield from _in_content(edited, block.get("content"), f"{here}/content", feature)


def _is_search(block: Block, feature: Feature) -> bool:
    """Return whether `feature` is the beta for tool search and `block` is a call of the tool-search tool.

    The beta for tool search is the one whose `blocks` have `tool_reference`, the type of a search result.
    """
    name = text(block.get("name"))
    return _REFERENCE in feature.blocks and block.get("type") == "server_tool_use" and name.startswith(_SEARCH)


def _taking(edited: EditedMembers, member: str, holder: Block, name: str) -> Callable[[], None]:
    def take_out() -> None:
        del holder[name]
        edited.change(member)

    return take_out


def _removing(edited: EditedMembers, member: str, items: list[Any], item: Block) -> Callable[[], None]:
    def take_out() -> None:
        items[:] = [each for each in items if each is not item]
        if member == "context_management" and not items:
            edited.put(member, None)
        edited.change(member)

    return take_out


def _replacing(edited: EditedMembers, content: list[Any], block: Block) -> Callable[[], None]:
    """Return a function that removes a block from `content`.

    If the block is a `tool_reference`, the function puts a text with the tool's name in its place.
    """

    def take_out() -> None:
        name = text(block.get("tool_name")) if block.get("type") == _REFERENCE else ""
        made = [{"type": "text", "text": name}] if name else []
        content[:] = [new for each in content for new in (made if each is block else [each])]
        content[:] = content or [{"type": "text", "text": NO_OUTPUT}]
        edited.change("messages")

    return take_out
