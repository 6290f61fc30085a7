"""What the parameters of a request mean for a model: decided here once, for every conversion.

A conversion reads what its client said, asks for a decision and writes it down in its own words; what cannot be carried
is reported here, so that the same wish loses the same on every conversion. How members are read is in the readers, how
decisions are written in `dialects/bedrock_converse/options.py` and `dialects/anthropic_messages/settings.py`. Nothing
here knows a dialect, but that thinking is wished for in Anthropic's form or by an effort. Source: bedrock.md 3.2.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop

JSON_HINT: Final = "Answer with one JSON object and nothing else: no other text, no code fence."
"""For `json_object`, which neither dialect has: a tool without a schema would be called with {} (bedrock.md 3.2)."""

EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""OpenAI's reasoning efforts, weakest first, and Anthropic's `max`."""
MIN_BUDGET: Final = 1024
"""Anthropic's smallest thinking budget."""
_BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 31_999, "max": 63_999}
"""Tokens of thinking for an effort; no provider defines them, Claude Code's own steps are of this size."""
_MAX_BUDGET: Final = 2**31 - 1
"""Tokens; Bedrock's counts are of 32 bits, and a sum with a greater one may not be JSON any more."""

_CLAUDE: Final = frozenset({"budget", "adaptive"})
"""Forms of Anthropic's `thinking`; the only ones in which not asking turns it off, and a `display` can be asked for."""
_USUAL_EFFORT: Final = "high"
"""What Anthropic's adaptive thinking takes where no effort is named."""
_MIN_TOP_P: Final = 0.95
"""Anthropic takes top_p beside thinking from here on."""
_NEUTRAL: Final[Mapping[str, float]] = {"temperature": 1, "top_p": 1}
"""What a model that takes neither, or one that thinks, samples by anyway."""
SAMPLING: Final = ("temperature", "top_p", "top_k")
_PLAIN: Final[Mapping[str, str]] = {name: f"/{name}" for name in SAMPLING}


@dataclass(frozen=True, slots=True)
class AnthropicThinking:
    """`thinking` in Anthropic's own form, which LiteLLM's and Vercel's clients send to Chat too."""

    mode: str
    """enabled, adaptive or disabled."""
    budget: int | None
    display: str
    """summarized, omitted, or "" if nothing is said."""


def parse_thinking(value: Any, field: str = "thinking") -> AnthropicThinking | None:
    """Anthropic's `thinking`; None when nothing is said. `field` names it in errors."""
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("type") not in ("enabled", "adaptive", "disabled"):
        raise invalid(f'{field}: "type" must be enabled, adaptive or disabled', field)
    tokens = value.get("budget_tokens")
    if tokens is not None and (type(tokens) is not int or not 0 <= tokens <= _MAX_BUDGET):
        raise invalid(f"{field}.budget_tokens must be a whole number", f"{field}.budget_tokens")
    display = value.get("display")
    if display not in (None, "", "summarized", "omitted"):
        raise invalid(f"{field}.display must be summarized or omitted", f"{field}.display")
    return AnthropicThinking(value["type"], tokens, display or "")


@dataclass(frozen=True, slots=True)
class ThinkingRequest:
    """What the client said of thinking: by an effort, by Anthropic's own `thinking`, or by both."""

    effort: str = ""
    """One of `EFFORTS`, or ""."""
    anthropic: AnthropicThinking | None = None
    effort_at: str = "/reasoning_effort"
    """JSON pointers of the two in the client's request."""
    anthropic_at: str = "/thinking"

    @property
    def said(self) -> tuple[str, ...]:
        return tuple(at for at, given in ((self.anthropic_at, self.anthropic), (self.effort_at, self.effort)) if given)

    @property
    def on(self) -> bool:
        """Thinking is wanted. Of two that disagree Anthropic's own member counts, which says more."""
        return self.anthropic.mode != "disabled" if self.anthropic else self.effort not in {"", "none"}

    @property
    def level(self) -> str:
        return "" if self.effort == "none" else self.effort

    @property
    def tokens(self) -> int | None:
        return self.anthropic.budget if self.anthropic else None


@dataclass(frozen=True, slots=True)
class ThinkingPlan:
    """How the model is asked to think; `form` is one of `Caps.reasoning`, or "" where it is not asked."""

    form: str = ""
    effort: str = ""
    tokens: int = 0
    display: str = ""

    @property
    def is_anthropic(self) -> bool:
        """Anthropic's thinking, which takes no forced tool and little sampling beside it."""
        return self.form in _CLAUDE


def plan_thinking(
    wished: ThinkingRequest, limit: int | None, caps: Caps, drop: Drop, *, unsigned_loop: bool
) -> ThinkingPlan:
    """The decision. `limit` is the client's own limit of the output.

    `unsigned_loop`: the turn that called the tools came back without its thinking. A model with a budget refuses to
    think on then ("Expected thinking or redacted_thinking", RooCode#11238), so it answers without; adaptive ones go on.
    """
    if wished.anthropic and wished.effort and wished.on != (wished.effort != "none"):
        drop(wished.effort_at)
        wished = replace(wished, effort="")
    if not wished.on:
        return _off(wished, caps, drop)
    if caps.reasoning in {"none", "always"} or (caps.reasoning == "budget" and unsigned_loop):
        return _lost(wished, drop)
    return _in_tokens(wished, limit, caps, drop) if caps.reasoning == "budget" else _in_effort(wished, caps, drop)


def _lost(wished: ThinkingRequest, drop: Drop) -> ThinkingPlan:
    for at in wished.said:
        drop(at)
    return ThinkingPlan()


def _off(wished: ThinkingRequest, caps: Caps, drop: Drop) -> ThinkingPlan:
    """Not asking is how thinking is turned off; `disabled` is refused by models that always think."""
    if caps.reasoning == "always":
        return _lost(wished, drop)
    if wished.said and "none" in caps.efforts and caps.reasoning not in {"none", *_CLAUDE}:
        return ThinkingPlan(caps.reasoning, "none")
    return ThinkingPlan()


def _in_tokens(wished: ThinkingRequest, limit: int | None, caps: Caps, drop: Drop) -> ThinkingPlan:
    """A budget that the client named is kept but for the limit; one that an effort stands for leaves room to answer."""
    if wished.tokens is not None:
        tokens = max(wished.tokens, MIN_BUDGET)
        tokens = tokens if limit is None else min(tokens, limit - 1)
        if tokens < MIN_BUDGET:
            return _lost(wished, drop)
        if tokens != wished.tokens:
            drop(f"{wished.anthropic_at}/budget_tokens")
        if wished.level:
            drop(wished.effort_at)
    else:
        effort = wished.level or _USUAL_EFFORT
        strongest = max(caps.efforts, key=EFFORTS.index, default=effort)
        if EFFORTS.index(effort) > EFFORTS.index(strongest):
            drop(wished.effort_at)
            effort = strongest
        tokens = fit_budget(budget_for_effort(effort), limit)
        if not tokens:
            return _lost(wished, drop)
    return ThinkingPlan("budget", tokens=tokens, display=_display(wished, caps))


def _in_effort(wished: ThinkingRequest, caps: Caps, drop: Drop) -> ThinkingPlan:
    if wished.tokens is not None:  # the model chooses its budget itself, and refuses one from us
        drop(f"{wished.anthropic_at}/budget_tokens")
    claudes = caps.reasoning in _CLAUDE
    if wished.anthropic and wished.anthropic.display and not claudes:
        drop(f"{wished.anthropic_at}/display")
    effort = wished.level or ("" if wished.tokens is None else effort_for_budget(wished.tokens))
    if not effort and not claudes:
        effort = _USUAL_EFFORT
    nearest = nearest_effort(effort, caps.efforts) if effort and caps.efforts else effort
    if nearest != effort and wished.level:
        drop(wished.effort_at)
    return ThinkingPlan(caps.reasoning, nearest, display=_display(wished, caps) if claudes else "")


def _display(wished: ThinkingRequest, caps: Caps) -> str:
    """Newer models leave the text out unless it is asked for (agentgateway#2725)."""
    asked = wished.anthropic.display if wished.anthropic else ""
    return asked or ("summarized" if caps.thinking_display else "")


def allowed_limit(asked: int | None, caps: Caps, drop: Drop, at: str) -> int | None:
    """The client's limit of the output, or the smallest one that the model takes; `at` is its JSON pointer."""
    if asked is None or asked >= caps.min_max_tokens:
        return asked
    drop(at)
    return caps.min_max_tokens


def output_limit(asked: int | None, decided: ThinkingPlan, caps: Caps, *, demanded: bool) -> int | None:
    """The limit of the output to send, of an allowed one; None for none.

    Thinking counts into it: where the limit is ours to choose, the whole usual room for the answer stays beside it.
    """
    if asked is not None:
        return asked
    if demanded or caps.needs_max_tokens or decided.tokens:
        return max(decided.tokens + caps.max_output, caps.min_max_tokens)
    return None


def supported_sampling(
    asked: Mapping[str, float],
    caps: Caps,
    drop: Drop,
    *,
    thinks: bool,
    at: Mapping[str, str] = _PLAIN,
    max_temperature: float = 1,
) -> dict[str, float]:
    """What is left of temperature, top_p and top_k. `thinks`: Anthropic's thinking stands beside them.

    `at` has the JSON pointer of each in the client's request; `max_temperature` is the end of the upstream's own scale
    of temperatures, which is 2 for OpenAI's.
    """
    taken = dict(asked)

    def take_out(*names: str) -> None:
        for name in names:
            if (value := taken.pop(name, None)) is not None and value != _NEUTRAL.get(name):
                drop(at[name])

    if caps.sampling == "none":
        take_out(*SAMPLING)
    if thinks:
        take_out("temperature", "top_k")
        if taken.get("top_p", 1) < _MIN_TOP_P:
            take_out("top_p")
    if caps.sampling == "one" and "temperature" in taken:
        take_out("top_p")  # litellm#15070: both together are refused
    if taken.get("temperature", 0) > max_temperature:
        taken["temperature"] = max_temperature
        drop(at["temperature"])
    return taken


def supported_stops(wished: Sequence[str], caps: Caps, drop: Drop, at: str) -> list[str]:
    """Stop sequences, but for those that the model refuses; `at` is their JSON pointer."""
    taken = [stop for stop in wished if caps.blank_stops or stop.strip()] if caps.stop_sequences else []
    if len(taken) < len(wished):
        drop(at)
    return taken


def nearest_effort(wanted: str, offered: Collection[str]) -> str:
    """The offered effort that is nearest to the wanted one; of two the weaker. Thinking that is wanted is never off."""
    if wanted != "none":
        offered = [name for name in offered if name != "none"] or offered
    return min(offered, key=lambda name: (abs(EFFORTS.index(name) - EFFORTS.index(wanted)), EFFORTS.index(name)))


def budget_for_effort(wanted: str) -> int:
    """Tokens of thinking for an effort."""
    return _BUDGETS[wanted]


def fit_budget(tokens: int, limit: int | None) -> int:
    """A thinking budget that leaves half of the output limit for the answer; 0 if the limit is too small for any."""
    if limit is None:
        return max(MIN_BUDGET, tokens)
    return 0 if limit <= MIN_BUDGET else max(MIN_BUDGET, min(tokens, limit // 2))


def effort_for_budget(tokens: int) -> str:
    """The strongest effort whose budget the tokens reach, for a model that takes no budget."""
    return next((name for name in reversed(_BUDGETS) if _BUDGETS[name] <= tokens), "minimal")
