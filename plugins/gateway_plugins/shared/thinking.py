"""The thinking that a client requests, and the thinking that a model is asked for.

- A reader of a client dialect makes a `ThinkingRequest`. Nothing but its pointers is of the dialect.
- `plan_thinking` makes a `ThinkingPlan` of it, by the model's capabilities. What the model cannot do is reported
  through `drop`, so that the same request loses the same in every conversion.
- An upstream dialect writes the plan: `dialects/bedrock_converse/options.py`, `dialects/openai_chat/options.py`,
  `dialects/anthropic_messages/settings.py`.

No member of a body is read or written here. Source: bedrock.md 3.2.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop

EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""OpenAI's reasoning efforts, weakest first, and Anthropic's `max`."""
_MIN_BUDGET: Final = 1024
"""Tokens in Anthropic's smallest thinking budget."""
_BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 31_999, "max": 63_999}
"""Tokens of thinking for an effort. No provider defines them; Claude Code's own steps are of this size."""
_MAX_BUDGET: Final = 2**31 - 1
"""Most tokens that a client may name: Bedrock's counts have 32 bits, and a sum with a larger one may not be JSON."""
_ANTHROPIC_FORMS: Final = frozenset({"budget", "adaptive"})
"""Forms of Anthropic's `thinking`. Only these are turned off by leaving them out, and only these take a `display`."""
_USUAL_EFFORT: Final = "high"
"""Effort of Anthropic's adaptive thinking if the request names none."""


@dataclass(frozen=True, slots=True)
class AnthropicThinking:
    """The member `thinking` in Anthropic's form, which LiteLLM's and Vercel's clients send to Chat too."""

    mode: str
    """One of enabled, adaptive and disabled."""
    budget: int | None
    """Tokens."""
    display: str
    """summarized, omitted, or "" if the client names none."""


@dataclass(frozen=True, slots=True)
class ThinkingRequest:
    """Thinking as the client requests it: by an effort, by Anthropic's `thinking`, or by both."""

    effort: str = ""
    """One of `EFFORTS`, or ""."""
    anthropic: AnthropicThinking | None = None
    effort_at: str = "/reasoning_effort"
    """JSON pointer of the effort in the client's request."""
    anthropic_at: str = "/thinking"
    """JSON pointer of Anthropic's `thinking` in the client's request."""

    @property
    def pointers(self) -> tuple[str, ...]:
        """JSON pointers of the members that request or forbid thinking."""
        members = ((self.anthropic_at, self.anthropic), (self.effort_at, self.effort))
        return tuple(at for at, value in members if value)

    @property
    def is_wanted(self) -> bool:
        """True if the model is to think. If both members are sent, Anthropic's decides, because it says more."""
        return self.anthropic.mode != "disabled" if self.anthropic else self.effort not in {"", "none"}

    @property
    def level(self) -> str:
        """The effort of thinking that is wanted, or ""."""
        return "" if self.effort == "none" else self.effort

    @property
    def budget(self) -> int | None:
        """Tokens of thinking that the client names."""
        return self.anthropic.budget if self.anthropic else None


@dataclass(frozen=True, slots=True)
class ThinkingPlan:
    """The thinking that the model is asked for."""

    form: str = ""
    """One of `Caps.reasoning`; "" if the request says nothing of thinking."""
    effort: str = ""
    tokens: int = 0
    display: str = ""

    @property
    def is_anthropic(self) -> bool:
        """True for Anthropic's thinking, which takes no forced tool and little sampling beside it."""
        return self.form in _ANTHROPIC_FORMS


def parse_thinking(value: Any, field: str = "thinking") -> AnthropicThinking | None:
    """Return Anthropic's `thinking`, or None if it is missing.

    Raises `Refused` with the name `field` for a value that is malformed.
    """
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("type") not in ("enabled", "adaptive", "disabled"):
        raise invalid(f'{field}: "type" must be enabled, adaptive or disabled', field)
    budget = value.get("budget_tokens")
    if budget is not None and (type(budget) is not int or not 0 <= budget <= _MAX_BUDGET):
        raise invalid(f"{field}.budget_tokens must be a whole number", f"{field}.budget_tokens")
    display = value.get("display")
    if display not in (None, "", "summarized", "omitted"):
        raise invalid(f"{field}.display must be summarized or omitted", f"{field}.display")
    return AnthropicThinking(value["type"], budget, display or "")


def plan_thinking(
    request: ThinkingRequest, limit: int | None, caps: Caps, drop: Drop, *, unsigned_loop: bool
) -> ThinkingPlan:
    """Return the thinking to ask the model for. `limit` is the client's limit of the output.

    `unsigned_loop` is true if the turn that called the tools came back without its thinking. A model with a budget
    refuses to think then ("Expected thinking or redacted_thinking", RooCode#11238), so it answers without thinking.
    A model with adaptive thinking accepts it.
    """
    if request.anthropic and request.effort and request.is_wanted != (request.effort != "none"):
        drop(request.effort_at)
        request = replace(request, effort="")
    if not request.is_wanted:
        return _plan_without(request, caps, drop)
    if caps.reasoning in {"none", "always"} or (caps.reasoning == "budget" and unsigned_loop):
        return _drop_request(request, drop)
    return _plan_budget(request, limit, caps, drop) if caps.reasoning == "budget" else _plan_effort(request, caps, drop)


def _drop_request(request: ThinkingRequest, drop: Drop) -> ThinkingPlan:
    for at in request.pointers:
        drop(at)
    return ThinkingPlan()


def _plan_without(request: ThinkingRequest, caps: Caps, drop: Drop) -> ThinkingPlan:
    """Return a plan without thinking. Leaving it out turns it off; models that always think refuse `disabled`."""
    if caps.reasoning == "always":
        return _drop_request(request, drop)
    if request.pointers and "none" in caps.efforts and caps.reasoning not in {"none", *_ANTHROPIC_FORMS}:
        return ThinkingPlan(caps.reasoning, "none")
    return ThinkingPlan()


def _plan_budget(request: ThinkingRequest, limit: int | None, caps: Caps, drop: Drop) -> ThinkingPlan:
    """Return a plan with a budget.

    A budget that the client named is lowered only below the limit. One that stands for an effort leaves room to answer.
    """
    if request.budget is not None:
        tokens = max(request.budget, _MIN_BUDGET)
        tokens = tokens if limit is None else min(tokens, limit - 1)
        if tokens < _MIN_BUDGET:
            return _drop_request(request, drop)
        if tokens != request.budget:
            drop(f"{request.anthropic_at}/budget_tokens")
        if request.level:
            drop(request.effort_at)
    else:
        effort = request.level or _USUAL_EFFORT
        strongest = max(caps.efforts, key=EFFORTS.index, default=effort)
        if EFFORTS.index(effort) > EFFORTS.index(strongest):
            drop(request.effort_at)
            effort = strongest
        tokens = _fit_budget(_BUDGETS[effort], limit)
        if not tokens:
            return _drop_request(request, drop)
    return ThinkingPlan("budget", tokens=tokens, display=_display(request, caps))


def _plan_effort(request: ThinkingRequest, caps: Caps, drop: Drop) -> ThinkingPlan:
    if request.budget is not None:  # the model chooses its budget itself, and refuses one from the request
        drop(f"{request.anthropic_at}/budget_tokens")
    is_anthropic = caps.reasoning in _ANTHROPIC_FORMS
    if request.anthropic and request.anthropic.display and not is_anthropic:
        drop(f"{request.anthropic_at}/display")
    effort = request.level or ("" if request.budget is None else effort_for_budget(request.budget))
    if not effort and not is_anthropic:
        effort = _USUAL_EFFORT
    nearest = nearest_effort(effort, caps.efforts) if effort and caps.efforts else effort
    if nearest != effort and request.level:
        drop(request.effort_at)
    return ThinkingPlan(caps.reasoning, nearest, display=_display(request, caps) if is_anthropic else "")


def _display(request: ThinkingRequest, caps: Caps) -> str:
    """Return the display to ask for. Newer models leave the text out unless a request names one (agentgateway#2725)."""
    display = request.anthropic.display if request.anthropic else ""
    return display or ("summarized" if caps.thinking_display else "")


def nearest_effort(effort: str, supported: Collection[str]) -> str:
    """Return the supported effort that is nearest; of two that are equally near, the weaker.

    An effort other than `none` becomes `none` only if the model has no other.
    """
    if effort != "none":
        supported = [name for name in supported if name != "none"] or supported
    return min(supported, key=lambda name: (abs(EFFORTS.index(name) - EFFORTS.index(effort)), EFFORTS.index(name)))


def effort_for_budget(tokens: int) -> str:
    """Return the strongest effort whose budget the tokens reach, for a model that takes no budget."""
    return next((name for name in reversed(_BUDGETS) if _BUDGETS[name] <= tokens), "minimal")


def _fit_budget(tokens: int, limit: int | None) -> int:
    """Return a budget that leaves half of the output limit for the answer, or 0 if the limit is too small for any."""
    if limit is None:
        return max(_MIN_BUDGET, tokens)
    return 0 if limit <= _MIN_BUDGET else max(_MIN_BUDGET, min(tokens, limit // 2))
