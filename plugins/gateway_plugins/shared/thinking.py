"""The thinking (reasoning) that a client requests, and the thinking that the gateway then requests from the model.

- The reader of the client's dialect creates a `ThinkingRequest`. The request has the same form for all dialects, except
  for its JSON pointers.
- `plan_thinking` turns the request into a `ThinkingPlan` that the model supports. What the model does not support is
  reported as dropped. Because all conversions use `plan_thinking`, they all report the same fields.
- The provider's dialect writes the plan into the body: `dialects/bedrock_converse/options.py`,
  `dialects/openai_chat/options.py`, `dialects/anthropic_messages/settings.py`.

No field of a body is written here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop
from gateway_plugins.shared import numbers

EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""OpenAI's reasoning efforts and Anthropic's `max`, from the weakest to the strongest."""
_MIN_BUDGET: Final = 1024
"""Minimum of Anthropic's thinking budget, in tokens."""
_BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 31_999, "max": 63_999}
"""Thinking budget in tokens for each effort. No provider defines these numbers. Claude Code uses similar ones."""
BETWEEN_TOOLS: Final = "between_tools"
"""Value of `thinking.type` for models whose thinking cannot be disabled completely. With this value, such a model
thinks only between tool calls."""
ANTHROPIC_FORMS: Final = frozenset({"budget", "adaptive"})
"""Forms of thinking (`Caps.reasoning`) that are requested with Anthropic's field `thinking`. Only this field has a
`display`."""
_SWITCHES: Final = frozenset({"budget", "adaptive", "nova", "thinking.type", "enable_thinking", "chat_template_kwargs"})
"""Forms of thinking (`Caps.reasoning`) in which a value of the field itself switches thinking off. In all other forms,
the effort `none` switches thinking off."""
_GRADED: Final = frozenset({"reasoning_effort", "reasoning.effort", "reasoning_config", "nova"})
"""Forms of thinking (`Caps.reasoning`) in which an effort sets the strength."""
_DISPLAYS: Final = ("summarized", "omitted")
_UPDATES: Final = "updates"
"""Value of `display` that needs a beta. Conversions send "summarized" instead, because some providers refuse the beta.
"""
_USUAL_EFFORT: Final = "high"
"""Effort if a client requests thinking without an effort or a budget. It is Anthropic's default."""


@dataclass(frozen=True, slots=True)
class AnthropicThinking:
    """The field `thinking` of Anthropic's API. Clients of LiteLLM and Vercel also send it in Chat requests."""

    mode: str
    """One of enabled, adaptive and disabled."""
    budget: int | None
    """Thinking budget in tokens. It is None if the client sets none."""
    display: str
    """Form in which the reply shows the thinking: "summarized", "updates" or "omitted". It is "" if the client names
    none.
    """


@dataclass(frozen=True, slots=True)
class ThinkingRequest:
    """The thinking that the client requests: an effort, Anthropic's `thinking`, or both."""

    effort: str = ""
    """One of `EFFORTS`. It is "" if the client sets no effort."""
    anthropic: AnthropicThinking | None = None
    effort_at: str = "/reasoning_effort"
    """JSON pointer of the effort in the client's request."""
    anthropic_at: str = "/thinking"
    """JSON pointer of Anthropic's `thinking` in the client's request, or of another field with the same meaning."""
    budget_at: str = ""
    """JSON pointer of the thinking budget. It is "" if the budget is in Anthropic's `thinking`."""

    @property
    def pointers(self) -> tuple[str, ...]:
        """JSON pointers of the client's fields about thinking: Anthropic's `thinking`, the effort, or both."""
        members = ((self.anthropic_at, self.anthropic), (self.effort_at, self.effort))
        return tuple(at for at, value in members if value)

    @property
    def is_wanted(self) -> bool:
        """True if the client wants the model to think.

        If the client sets both an effort and Anthropic's `thinking`, the field `thinking` decides.
        """
        return self.anthropic.mode != "disabled" if self.anthropic else self.effort not in {"", "none"}

    @property
    def is_off(self) -> bool:
        """True if the client switches thinking off."""
        return bool(self.pointers) and not self.is_wanted

    @property
    def budget_pointer(self) -> str:
        """JSON pointer of the client's thinking budget: `budget_at`, or the field `budget_tokens` in Anthropic's
        `thinking`.
        """
        return self.budget_at or f"{self.anthropic_at}/budget_tokens"

    @property
    def level(self) -> str:
        """The requested effort, or "" if no effort is set or if thinking is switched off by the effort "none"."""
        return "" if self.effort == "none" else self.effort

    @property
    def budget(self) -> int | None:
        """Thinking budget in tokens. It is None if the client sets no budget."""
        return self.anthropic.budget if self.anthropic else None


@dataclass(frozen=True, slots=True)
class ThinkingPlan:
    """The thinking that is requested from the model."""

    form: str = ""
    """The form in which thinking is requested, a value of `Caps.reasoning`. It is "" if the body has no field for
    thinking.
    """
    effort: str = ""
    tokens: int = 0
    """Thinking budget in tokens. It is 0 if no budget is sent."""
    display: str = ""
    off: str = ""
    """Value of `thinking.type` that switches thinking off (`Caps.thinking_off`). It is "" if thinking is not switched
    off.
    """

    @property
    def is_anthropic(self) -> bool:
        """True if thinking is requested with Anthropic's field `thinking`.

        The model then refuses most sampling parameters, and some models also refuse a forced tool choice.
        """
        return self.form in ANTHROPIC_FORMS and not self.off


def parse_thinking(value: Any, field: str = "thinking") -> AnthropicThinking | None:
    """Return the parsed value of Anthropic's field `thinking`, or None if it is missing.

    Raises `Refused` if it is malformed. `field` is the name of the field in the error.
    """
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("type") not in ("enabled", "adaptive", "disabled"):
        raise invalid(f'{field}: "type" must be enabled, adaptive or disabled', field)
    budget = numbers.whole(value.get("budget_tokens"), f"{field}.budget_tokens")
    display = value.get("display")
    if display not in (None, "", *_DISPLAYS, _UPDATES):
        raise invalid(f"{field}.display must be summarized, omitted or updates", f"{field}.display")
    return AnthropicThinking(value["type"], budget, display or "")


def plan_thinking(
    request: ThinkingRequest, limit: int | None, caps: Caps, drop: Drop, *, unsigned_loop: bool
) -> ThinkingPlan:
    """Return the thinking to request from the model.

    `limit` is the client's output limit. `unsigned_loop` is true if the client sent back a turn with tool calls but
    without the turn's thinking. A model with a thinking budget then refuses thinking ("Expected thinking or
    redacted_thinking", RooCode#11238), so none is requested from it.
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
    """Return the plan for a client that requests no thinking.

    - If the client does not mention thinking, the plan is empty.
    - If the client switches thinking off, the plan switches it off for a model that thinks by default.
    - If the model's thinking cannot be switched off, the client's fields are reported as dropped. The plan has the
      weakest effort that the model accepts, if the model accepts efforts.
    - If the model is unknown, the client's fields are reported as dropped, because the model may think by default.
    """
    if not request.is_off or (caps.reasoning == "none" and caps.family):
        return ThinkingPlan()
    if caps.reasoning in {"none", "always"}:
        return _drop_request(request, drop)
    if "none" in caps.efforts and caps.reasoning not in ANTHROPIC_FORMS:
        return ThinkingPlan(caps.reasoning, "none")
    if not caps.thinks_by_default:
        return ThinkingPlan()
    if caps.thinking_off and caps.reasoning in _SWITCHES:
        return ThinkingPlan(caps.reasoning, off=caps.thinking_off)
    _drop_request(request, drop)
    weakest = nearest_effort(EFFORTS[0], caps.efforts)
    return ThinkingPlan(caps.reasoning, weakest) if weakest and caps.reasoning != "budget" else ThinkingPlan()


def _plan_budget(request: ThinkingRequest, limit: int | None, caps: Caps, drop: Drop) -> ThinkingPlan:
    """Return a plan with a thinking budget.

    A client's budget is raised to the minimum, or lowered to one token below the output limit. A budget that is derived
    from an effort leaves half of the output limit for the answer.
    """
    if request.budget is not None:
        tokens = max(request.budget, _MIN_BUDGET)
        tokens = tokens if limit is None else min(tokens, limit - 1)
        if tokens < _MIN_BUDGET:
            return _drop_request(request, drop)
        if tokens != request.budget:
            drop(request.budget_pointer)
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
    return ThinkingPlan("budget", tokens=tokens, display=_display(request, caps, drop))


def _plan_effort(request: ThinkingRequest, caps: Caps, drop: Drop) -> ThinkingPlan:
    if request.budget is not None:  # these models refuse a budget in the request
        drop(request.budget_pointer)
    is_anthropic = caps.reasoning in ANTHROPIC_FORMS
    if request.anthropic and request.anthropic.display and not is_anthropic:
        drop(f"{request.anthropic_at}/display")
    effort = request.level or ("" if request.budget is None else effort_for_budget(request.budget))
    if not effort and caps.reasoning in _GRADED:
        effort = _USUAL_EFFORT
    nearest = nearest_effort(effort, caps.efforts) if effort else ""
    if not nearest and caps.reasoning in _GRADED:
        return _drop_request(request, drop)
    if nearest != effort and request.level:
        drop(request.effort_at)
    return ThinkingPlan(caps.reasoning, nearest, display=_display(request, caps, drop) if is_anthropic else "")


def _display(request: ThinkingRequest, caps: Caps, drop: Drop) -> str:
    """Return the value of `display` to send, or "" to send none.

    Without `display`, newer models leave out the text of their thinking (agentgateway#2725). If the client names no
    `display`, these models get "summarized".
    """
    display = request.anthropic.display if request.anthropic else ""
    if display == _UPDATES:
        drop(f"{request.anthropic_at}/display")
        return "summarized"
    return display or ("summarized" if caps.thinking_display else "")


def nearest_effort(effort: str, supported: Collection[str]) -> str:
    """Return the supported effort that is nearest to `effort`, or "" if no effort is supported.

    If two efforts are equally near, the weaker one is returned. For an `effort` other than `none`, the result is `none`
    only if no other effort is supported.
    """
    if not supported:
        return ""
    if effort != "none":
        supported = [name for name in supported if name != "none"] or supported
    return min(supported, key=lambda name: (abs(EFFORTS.index(name) - EFFORTS.index(effort)), EFFORTS.index(name)))


def answer_effort(effort: str, at: str, caps: Caps, drop: Drop, *, off: bool) -> str:
    """Return the value of Claude's `output_config.effort`, or "" to send none. This effort is for the whole answer, not
    only for thinking.

    If the result differs from `effort`, the client's field at the JSON pointer `at` is reported as dropped. `off` is
    true if the request switches thinking off. Some models then accept only weaker efforts.
    """
    supported = caps.efforts if caps.reasoning == "adaptive" or caps.effort_beta else ()
    if off and caps.thinks_by_default and not caps.thinking_off:
        supported = ()  # the weakest effort is already part of the plan for thinking
    if off and caps.effort_without_thinking:
        strongest = EFFORTS.index(caps.effort_without_thinking)
        supported = tuple(name for name in supported if EFFORTS.index(name) <= strongest)
    nearest = nearest_effort(effort, supported)
    if nearest != effort:
        drop(at)
    return nearest


def effort_for_budget(tokens: int) -> str:
    """Return the strongest effort whose budget in `_BUDGETS` is at most `tokens`, or "minimal" if there is none."""
    return next((name for name in reversed(_BUDGETS) if _BUDGETS[name] <= tokens), "minimal")


def _fit_budget(tokens: int, limit: int | None) -> int:
    """Return the thinking budget to send: `tokens`, but at most half of the output limit, and at least Anthropic's
    minimum.

    If the output limit itself is not above this minimum, the result is 0.
    """
    if limit is None:
        return max(_MIN_BUDGET, tokens)
    return 0 if limit <= _MIN_BUDGET else max(_MIN_BUDGET, min(tokens, limit // 2))
