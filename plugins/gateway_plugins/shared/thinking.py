"""The thinking that a client requests, and the thinking that the model is then asked for.

- The reader of the client's dialect creates a `ThinkingRequest`, which is the same for all dialects except for its JSON
  pointers.
- `plan_thinking` turns it into a `ThinkingPlan` that the model supports. Parts of the request that the model does not
  support are reported as dropped. Every conversion drops the same parts.
- The provider's dialect writes the plan into the body: `dialects/bedrock_converse/options.py`,
  `dialects/openai_chat/options.py`, `dialects/anthropic_messages/settings.py`.

No member of a body is written here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop

EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""OpenAI's reasoning efforts and Anthropic's `max`, from the weakest to the strongest."""
_MIN_BUDGET: Final = 1024
"""Minimum of Anthropic's thinking budget, in tokens."""
_BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 31_999, "max": 63_999}
"""Thinking budget in tokens for each effort. No provider defines these numbers; Claude Code uses similar ones."""
_MAX_BUDGET: Final = 2**31 - 1
"""Maximum of a client's thinking budget, in tokens.

Bedrock's counts have 32 bits. A sum with a much larger number could exceed the integers that orjson can write.
"""
_ANTHROPIC_FORMS: Final = frozenset({"budget", "adaptive"})
"""Forms of thinking that use Anthropic's member `thinking`.

Only these forms have a `display`. A model with one of these forms does not think if the request has no `thinking`. A
model with any other form may think even if the request has no member for thinking.
"""
_USUAL_EFFORT: Final = "high"
"""Effort for a client that requests thinking without an effort or budget. It is Anthropic's default."""


@dataclass(frozen=True, slots=True)
class AnthropicThinking:
    """The member `thinking` of Anthropic's API. Clients of LiteLLM and Vercel also send it in Chat requests."""

    mode: str
    """One of enabled, adaptive and disabled."""
    budget: int | None
    """Thinking budget in tokens; None if the client sets none."""
    display: str
    """Whether the reply shows the thinking: "summarized" or "omitted"; "" if the client does not say."""


@dataclass(frozen=True, slots=True)
class ThinkingRequest:
    """The thinking that the client requests: an effort, Anthropic's `thinking`, or both."""

    effort: str = ""
    """One of `EFFORTS`, or "" if the client sets none."""
    anthropic: AnthropicThinking | None = None
    effort_at: str = "/reasoning_effort"
    """JSON pointer of the effort in the client's request."""
    anthropic_at: str = "/thinking"
    """JSON pointer of Anthropic's `thinking` in the client's request."""

    @property
    def pointers(self) -> tuple[str, ...]:
        """JSON pointers of the members that the client sets: Anthropic's `thinking`, the effort, or both."""
        members = ((self.anthropic_at, self.anthropic), (self.effort_at, self.effort))
        return tuple(at for at, value in members if value)

    @property
    def is_wanted(self) -> bool:
        """True if the client wants the model to think. If both members are set, Anthropic's `thinking` decides."""
        return self.anthropic.mode != "disabled" if self.anthropic else self.effort not in {"", "none"}

    @property
    def level(self) -> str:
        """The effort, or "" if there is none or if it is `none`."""
        return "" if self.effort == "none" else self.effort

    @property
    def budget(self) -> int | None:
        """Thinking budget in tokens that the client sets, or None."""
        return self.anthropic.budget if self.anthropic else None


@dataclass(frozen=True, slots=True)
class ThinkingPlan:
    """The thinking that the model is asked for."""

    form: str = ""
    """Form in which the model is asked, a value of `Caps.reasoning`; "" if the body has no member for thinking."""
    effort: str = ""
    tokens: int = 0
    """Thinking budget in tokens; 0 if no budget is sent."""
    display: str = ""

    @property
    def is_anthropic(self) -> bool:
        """True for Anthropic's form of thinking.

        A forced tool choice and most sampling parameters are refused with it.
        """
        return self.form in _ANTHROPIC_FORMS


def parse_thinking(value: Any, field: str = "thinking") -> AnthropicThinking | None:
    """Return the value of Anthropic's member `thinking`, or None if it is missing.

    Raises `Refused` for a malformed value. `field` is the name of the member in the error.
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
    """Return the thinking to ask the model for. `limit` is the client's output limit.

    `unsigned_loop` is true if the client sent back a turn with tool calls but left out the thinking of that turn. A
    model with a thinking budget refuses such a request ("Expected thinking or redacted_thinking", RooCode#11238), so
    the model is not asked to think. A model with adaptive thinking accepts such a request.
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
    """Return a plan without thinking.

    If the client sets a member, the effort `none` is sent to a model that has this effort and does not think in
    Anthropic's form. Otherwise no member is sent. A model that always thinks would refuse `disabled`, so the client's
    members are then reported as dropped.
    """
    if caps.reasoning == "always":
        return _drop_request(request, drop)
    if request.pointers and "none" in caps.efforts and caps.reasoning not in {"none", *_ANTHROPIC_FORMS}:
        return ThinkingPlan(caps.reasoning, "none")
    return ThinkingPlan()


def _plan_budget(request: ThinkingRequest, limit: int | None, caps: Caps, drop: Drop) -> ThinkingPlan:
    """Return a plan with a thinking budget.

    A budget that the client sets is raised to the minimum. If it is not below the output limit, it is lowered to one
    token less than this limit. A budget that is derived from an effort leaves half of the output limit for the answer.
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
    if request.budget is not None:  # these models refuse a budget in the request
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
    """Return the `display` to send. Without `display`, newer models omit the text of thinking (agentgateway#2725)."""
    display = request.anthropic.display if request.anthropic else ""
    return display or ("summarized" if caps.thinking_display else "")


def nearest_effort(effort: str, supported: Collection[str]) -> str:
    """Return the supported effort that is nearest to `effort`. The weaker of two is taken if both are equally near.

    An effort other than `none` becomes `none` only if the model has no other effort.
    """
    if effort != "none":
        supported = [name for name in supported if name != "none"] or supported
    return min(supported, key=lambda name: (abs(EFFORTS.index(name) - EFFORTS.index(effort)), EFFORTS.index(name)))


def effort_for_budget(tokens: int) -> str:
    """Return the effort for a thinking budget: the strongest effort whose budget in `_BUDGETS` is not larger."""
    return next((name for name in reversed(_BUDGETS) if _BUDGETS[name] <= tokens), "minimal")


def _fit_budget(tokens: int, limit: int | None) -> int:
    """Return a thinking budget of at most half of the output limit, but at least the minimum.

    Returns 0 if the limit is too small even for the minimum.
    """
    if limit is None:
        return max(_MIN_BUDGET, tokens)
    return 0 if limit <= _MIN_BUDGET else max(_MIN_BUDGET, min(tokens, limit // 2))
