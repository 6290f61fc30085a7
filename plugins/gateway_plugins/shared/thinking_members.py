"""Reader of the fields with which clients of OpenAI's dialects and of Converse request thinking or switch it off.

- OpenAI has `reasoning_effort` in Chat and `reasoning` in Responses. Compatible servers and model families have other
  fields: `reasoning` of OpenRouter, `enable_thinking` and `thinking_budget` of Qwen, `chat_template_kwargs` of vLLM,
  `reasoning_config` and `reasoningConfig` of Bedrock. A client may send any of them, because it does not know which
  provider answers.
- The fields are read from a body of Chat or Responses, or from `additionalModelRequestFields` of Converse.
- A request may have several of these fields. The first effort and the first `thinking` are used, in the order of
  `_READERS`. A later field with another meaning is reported as dropped.

Anthropic's own field `thinking` is read in `thinking.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

import msgspec

from gateway.contract.flag import Drop
from gateway_plugins.shared import numbers
from gateway_plugins.shared.checks import effort as checked_effort
from gateway_plugins.shared.checks import flag_of, object_of
from gateway_plugins.shared.fields import escape_step, param
from gateway_plugins.shared.thinking import AnthropicThinking, ThinkingRequest, parse_thinking

_NEUTRAL: Final[tuple[Any, ...]] = (None, "", [], False, "auto", "none")
"""Values without effect. An unknown field with one of these values is ignored without a report."""


class _Wish(msgspec.Struct, frozen=True):
    """The thinking that one field of a request demands: either an effort, or Anthropic's `thinking`."""

    at: str
    """JSON pointer of the field."""
    effort: str = ""
    anthropic: AnthropicThinking | None = None

    @property
    def is_off(self) -> bool:
        return self.effort == "none" if self.anthropic is None else self.anthropic.mode == "disabled"

    def equals(self, other: _Wish) -> bool:
        same = (self.effort, self.anthropic) == (other.effort, other.anthropic)
        return same or (self.is_off and other.is_off)


_Reader = Callable[[Any, str, Drop], Iterator[_Wish]]


def _effort(value: Any, at: str, _drop: Drop) -> Iterator[_Wish]:
    yield _Wish(at, checked_effort(value, param(at)))


def _switch(value: Any, at: str, _drop: Drop) -> Iterator[_Wish]:
    yield _Wish(at, anthropic=AnthropicThinking("adaptive" if flag_of(value, at) else "disabled", None, ""))


def _budget(value: Any, at: str, _drop: Drop) -> Iterator[_Wish]:
    tokens = numbers.whole(value, at)
    yield _Wish(at, anthropic=AnthropicThinking("enabled", tokens, "")) if tokens else _Wish(at, "none")


def _anthropic(value: Any, at: str, drop: Drop) -> Iterator[_Wish]:
    thinking = parse_thinking(value, param(at))
    _report(value, ("type", "budget_tokens", "display"), at, drop)
    yield _Wish(at, anthropic=thinking)


def _of_bedrock(value: Any, at: str, drop: Drop) -> Iterator[_Wish]:
    """Yield the thinking that is requested by Bedrock's `reasoning_config`.

    Its value is an effort (for Qwen) or an object like Anthropic's `thinking` (for Claude 3.7).
    """
    return (_anthropic if isinstance(value, dict) else _effort)(value, at, drop)


def _of_nova(value: Any, at: str, drop: Drop) -> Iterator[_Wish]:
    inner = object_of(value, at)
    if inner.get("type") == "disabled":
        yield _Wish(at, "none")
    elif inner.get("maxReasoningEffort") is not None:
        yield from _effort(inner["maxReasoningEffort"], f"{at}/maxReasoningEffort", drop)
    elif inner.get("type") == "enabled":
        yield _Wish(at, anthropic=AnthropicThinking("adaptive", None, ""))
    _report(inner, ("type", "maxReasoningEffort"), at, drop)


def _members(readers: Mapping[str, _Reader]) -> _Reader:
    """Return a reader for an object with several fields about thinking. `readers` has a reader for each of these
    fields.
    """

    def read(value: Any, at: str, drop: Drop) -> Iterator[_Wish]:
        inner = object_of(value, at)
        for name, reader in readers.items():
            if inner.get(name) is not None:
                yield from reader(inner[name], f"{at}/{name}", drop)
        _report(inner, readers, at, drop)

    return read


_READERS: Final[Mapping[str, _Reader]] = {
    "thinking": _anthropic,
    "reasoning_effort": _effort,
    "reasoning": _members({"effort": _effort, "max_tokens": _budget, "enabled": _switch}),
    "reasoning_config": _of_bedrock,
    "reasoningConfig": _of_nova,
    "enable_thinking": _switch,
    "thinking_budget": _budget,
    "chat_template_kwargs": _members({"enable_thinking": _switch, "thinking": _switch}),
}
"""The reader of each field with which clients request thinking. A field takes precedence over the fields after it."""
MEMBERS: Final = frozenset(_READERS)
"""Names of the fields that this module reads."""


def read_thinking(values: Mapping[str, Any], at: str, drop: Drop, *, efforts: Mapping[str, Any]) -> ThinkingRequest:
    """Return the thinking that a client requests.

    `values` are the fields of the object at the JSON pointer `at`. `efforts` has efforts from elsewhere in the request,
    by JSON pointer. An effort in `efforts` takes precedence over an effort in `values`.
    """
    wishes = [wish for place, value in efforts.items() if value is not None for wish in _effort(value, place, drop)]
    for name, reader in _READERS.items():
        if values.get(name) is not None:
            wishes += reader(values[name], f"{at}/{name}", drop)
    graded = [wish for wish in wishes if wish.effort]
    forms = [wish for wish in wishes if wish.anthropic is not None]
    for kind in (graded, forms):
        for wish in kind[1:]:
            if not wish.equals(kind[0]):
                drop(wish.at)
    effort = graded[0] if graded else _Wish(f"{at}/reasoning_effort")
    form = forms[0] if forms else _Wish(f"{at}/thinking")
    budget_at = "" if isinstance(values.get(form.at.rpartition("/")[2]), dict) else form.at
    return ThinkingRequest(effort.effort, form.anthropic, effort.at, form.at, budget_at)


def _report(value: Mapping[str, Any], known: Collection[str], at: str, drop: Drop) -> None:
    for name, inner in value.items():
        if name not in known and inner not in _NEUTRAL:
            drop(f"{at}/{escape_step(name)}")
