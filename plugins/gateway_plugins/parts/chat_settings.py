"""What the parameters of a Chat request mean for a model: decided here once, for every road that Chat takes.

A road asks for a decision and writes it down in its own words; what cannot be carried is reported here, so that the
same wish loses the same on every road. How members are read is in `read_openai_options.py`, how decisions are written
in `converse_options.py` and `anthropic_settings.py`. Nothing here knows the target's dialect. Source: bedrock.md 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.errors import invalid
from gateway.flag import Caps, Drop, Members
from gateway_plugins.parts import read_openai_chat as chat
from gateway_plugins.parts import read_openai_options as options
from gateway_plugins.parts.fields import member
from gateway_plugins.parts.read_openai_chat import Tool

JSON_HINT: Final = "Answer with one JSON object and nothing else: no other text, no code fence."
"""For `json_object`, which neither dialect has: a tool without a schema would be called with {} (bedrock.md 3.2)."""

_EFFORT: Final = "/reasoning_effort"
_OWN: Final = "/thinking"
_TOKENS: Final = "/thinking/budget_tokens"
_CLAUDE: Final = frozenset({"budget", "adaptive"})
"""Forms of Anthropic's `thinking`; the only ones in which not asking turns it off, and a `display` can be asked for."""
_USUAL_EFFORT: Final = "high"
"""What Anthropic's adaptive thinking takes where no effort is named."""
_MIN_TOP_P: Final = 0.95
"""Anthropic takes top_p beside thinking from here on."""
_SAMPLING: Final = ("temperature", "top_p", "top_k")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the client said of thinking, by `reasoning_effort`, by Anthropic's own `thinking`, or by both."""

    effort: str = ""
    own: options.Thinking | None = None

    @property
    def said(self) -> tuple[str, ...]:
        return tuple(at for at, given in ((_OWN, self.own), (_EFFORT, self.effort)) if given)

    @property
    def on(self) -> bool:
        """Thinking is wanted. Of two that disagree Anthropic's own member counts, which says more."""
        return self.own.mode != "disabled" if self.own else self.effort not in {"", "none"}

    @property
    def level(self) -> str:
        return "" if self.effort == "none" else self.effort

    @property
    def tokens(self) -> int | None:
        return self.own.budget if self.own else None


@dataclass(frozen=True, slots=True)
class Thought:
    """How the model is asked to think; `form` is one of `Caps.reasoning`, or "" where it is not asked."""

    form: str = ""
    effort: str = ""
    tokens: int = 0
    display: str = ""

    @property
    def is_claudes(self) -> bool:
        """Anthropic's thinking, which takes no forced tool and little sampling beside it."""
        return self.form in _CLAUDE


def wish(top: Members) -> Wish:
    return Wish(options.effort(top), options.thinking(top))


def thought(wished: Wish, limit: int | None, caps: Caps, drop: Drop, *, unsigned_loop: bool) -> Thought:
    """The decision. `limit` is the client's own limit of the output.

    `unsigned_loop`: the turn that called the tools came back without its thinking. A model with a budget refuses to
    think on then ("Expected thinking or redacted_thinking", RooCode#11238), so it answers without; adaptive ones go on.
    """
    if wished.own and wished.effort and wished.on != (wished.effort != "none"):
        drop(_EFFORT)
        wished = Wish(own=wished.own)
    if not wished.on:
        return _off(wished, caps, drop)
    if caps.reasoning in {"none", "always"} or (caps.reasoning == "budget" and unsigned_loop):
        return _lost(wished, drop)
    return _in_tokens(wished, limit, caps, drop) if caps.reasoning == "budget" else _in_effort(wished, caps, drop)


def _lost(wished: Wish, drop: Drop) -> Thought:
    for at in wished.said:
        drop(at)
    return Thought()


def _off(wished: Wish, caps: Caps, drop: Drop) -> Thought:
    """Not asking is how thinking is turned off; `disabled` is refused by models that always think."""
    if caps.reasoning == "always":
        return _lost(wished, drop)
    if wished.said and "none" in caps.efforts and caps.reasoning not in {"none", *_CLAUDE}:
        return Thought(caps.reasoning, "none")
    return Thought()


def _in_tokens(wished: Wish, limit: int | None, caps: Caps, drop: Drop) -> Thought:
    """A budget that the client named is kept but for the limit; one that an effort stands for leaves room to answer."""
    if wished.tokens is not None:
        tokens = max(wished.tokens, options.MIN_BUDGET)
        tokens = tokens if limit is None else min(tokens, limit - 1)
        if tokens < options.MIN_BUDGET:
            return _lost(wished, drop)
        if tokens != wished.tokens:
            drop(_TOKENS)
        if wished.level:
            drop(_EFFORT)
    else:
        effort = wished.level or _USUAL_EFFORT
        strongest = max(caps.efforts, key=options.EFFORTS.index, default=effort)
        if options.EFFORTS.index(effort) > options.EFFORTS.index(strongest):
            drop(_EFFORT)
            effort = strongest
        tokens = options.fitted(options.budget(effort), limit)
        if not tokens:
            return _lost(wished, drop)
    return Thought("budget", tokens=tokens, display=_display(wished, caps))


def _in_effort(wished: Wish, caps: Caps, drop: Drop) -> Thought:
    if wished.tokens is not None:  # the model chooses its budget itself, and refuses one from us
        drop(_TOKENS)
    claudes = caps.reasoning in _CLAUDE
    if wished.own and wished.own.display and not claudes:
        drop(f"{_OWN}/display")
    effort = wished.level or ("" if wished.tokens is None else options.effort_of(wished.tokens))
    if not effort and not claudes:
        effort = _USUAL_EFFORT
    nearest = options.nearest_effort(effort, caps.efforts) if effort and caps.efforts else effort
    if nearest != effort and wished.level:
        drop(_EFFORT)
    return Thought(caps.reasoning, nearest, display=_display(wished, caps) if claudes else "")


def _display(wished: Wish, caps: Caps) -> str:
    """Newer models leave the text out unless it is asked for (agentgateway#2725)."""
    asked = wished.own.display if wished.own else ""
    return asked or ("summarized" if caps.thinking_display else "")


def output_limit(asked: int | None, decided: Thought, caps: Caps, *, demanded: bool) -> int | None:
    """The limit of the output to send; None for none.

    Thinking counts into it: where the limit is ours to choose, the whole usual room for the answer stays beside it.
    """
    if asked is not None:
        return max(asked, caps.min_max_tokens)
    if demanded or caps.needs_max_tokens or decided.tokens:
        return max(decided.tokens + caps.max_output, caps.min_max_tokens)
    return None


def sampling(top: Members, caps: Caps, drop: Drop, *, thinks: bool) -> dict[str, float]:
    """temperature, top_p and top_k by their names in Chat. `thinks`: Anthropic's thinking stands beside them."""
    taken = {name: value for name in _SAMPLING if (value := options.number(top, name)) is not None}
    if caps.sampling == "none":
        _take_out(taken, drop, *_SAMPLING)
    if thinks:
        if taken.get("temperature") == 1:  # what thinking runs at anyway
            del taken["temperature"]
        _take_out(taken, drop, "temperature", "top_k")
        if taken.get("top_p", 1) < _MIN_TOP_P:
            _take_out(taken, drop, "top_p")
    if caps.sampling == "one" and "temperature" in taken:
        _take_out(taken, drop, "top_p")  # litellm#15070: both together are refused
    if taken.get("temperature", 0) > 1:  # OpenAI's scale ends at 2
        taken["temperature"] = 1
        drop("/temperature")
    return taken


def _take_out(taken: dict[str, float], drop: Drop, *names: str) -> None:
    for name in names:
        if name in taken:
            del taken[name]
            drop(f"/{name}")


def stops(top: Members, caps: Caps, drop: Drop) -> list[str]:
    """Stop sequences, but for those that the model refuses."""
    wished = options.stops(top)
    taken = [stop for stop in wished if caps.blank_stops or stop.strip()] if caps.stop_sequences else []
    if len(taken) < len(wished):
        drop("/stop")
    return taken


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools that may be called, and the choice among them."""

    offered: list[Tool]
    mode: str
    """auto, none, any or tool."""
    name: str
    """The demanded one, as the client calls it."""
    path: str
    """Where the client made the choice."""
    parallel: bool


def tools(top: Members) -> Tools:
    """Raises `Refused` for a demand that no tool can meet."""
    choice, offered = chat.tool_choice(top), chat.tools(top)
    if choice.allowed is not None:
        offered = [tool for tool in offered if tool.name in choice.allowed]
    field = "function_call" if top.decode("tool_choice") is None and "function_call" in top else "tool_choice"
    if choice.mode in {"any", "tool"} and not offered:
        raise invalid(f"{field}: a tool is demanded but none is offered; send tools", field)
    if choice.mode == "tool" and choice.name not in {tool.name for tool in offered}:
        raise invalid(f'{field}: no tool is named "{choice.name}"', field)
    parallel = member(top, "parallel_tool_calls") is not False
    return Tools(offered, choice.mode, choice.name, f"/{field}", parallel)
