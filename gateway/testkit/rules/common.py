"""The form of a rule, and checks that the rules of several dialects share, such as those of Claude's thinking and
sampling.

A rule is a generator of the faults of a body. Each dialect has a table of rules, and reports only the first fault. So a
rule may rely on the checks of earlier rules. The rules of each dialect are in `converse.py`, `claude.py`, `chat.py` or
`responses.py`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.contract.capabilities import Caps
from gateway.testkit.scenarios import SIGNATURE

Body = Mapping[str, Any]
Block = Mapping[str, Any]
Rule = Callable[[Body, Caps], Iterator[str]]

MODEL_SAYS: Final = "The model returned the following errors: "
"""The beginning of an error message at Converse that comes from the model and not from Converse itself."""
AGAIN: Final = "and try again."
MAX_CACHE_POINTS: Final = 4
_PROPERTY: Final = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
MIN_BUDGET: Final = 1024
MIN_TOP_P: Final = 0.95
"""Minimum `top_p` in a request with thinking."""
PREFILL: Final = "This model does not support assistant message prefill. The conversation must end with a user message."
TRAILING_SPACE: Final = "messages: final assistant content cannot end with trailing whitespace"
TTL_ORDER: Final = (
    "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. Note that blocks are processed"
    " in the following order: `tools`, `system`, `messages`."
)
ROOT_CHOICES: Final = "input_schema does not support oneOf, allOf, or anyOf at the top level"

_UNKNOWN: Final = Caps(
    redacted_reasoning=True,
    strict_tools=True,
    mid_system=True,
    leading_assistant=True,
    json_schema=True,
    cache_points=True,
    tool_cache_points=True,
    cache_ttl=True,
)
_BAD_BETAS: Final = (
    "claude-code-", "code-execution-", "fast-mode-", "files-api-", "mcp-", "prompt-caching-scope-", "skills-", "web-",
)  # fmt: skip
"""Prefixes of Anthropic betas that Bedrock refuses as "invalid beta flag" (LiteLLM's map of betas;
claude-code#56595)."""
_MAGIC: Final[Mapping[str, bytes]] = {
    "png": rb"\x89PNG",
    "jpeg": rb"\xff\xd8\xff",
    "gif": rb"GIF8",
    "webp": rb"RIFF[\x00-\xff]{4}WEBP",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The parameters of a request for thinking and sampling. They have Anthropic's names, whatever the dialect is."""

    thinking: Any = None
    effort: Any = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Any = None
    forced: bool = False
    betas: tuple[str, ...] = ()

    @property
    def thinks(self) -> bool:
        return tag_of(self.thinking) in {"enabled", "adaptive"}


def first(faults: Iterable[str]) -> str | None:
    return next(iter(faults), None)


def judged(rules: Iterable[Rule], body: Body, caps: Caps) -> str | None:
    return first(fault for rule in rules for fault in rule(body, caps))


def tag_of(value: Any) -> str:
    """Return the string `type` of an object, or "" if the value is no object or `type` is no string."""
    tag = value.get("type") if isinstance(value, dict) else None
    return tag if isinstance(tag, str) else ""


def member(value: Any, name: str) -> Any:
    """Return the value of a key, or None if `value` is no object or lacks the key."""
    return value.get(name) if isinstance(value, dict) else None


def permitting(caps: Caps) -> Caps:
    """Return the capabilities by which a request is checked: `caps`, or capabilities that allow everything if the
    model's family is unknown.

    For example, the family is unknown if the request names the ARN of an inference profile.
    """
    return caps if caps.family else _UNKNOWN


def interleaves(betas: Iterable[str] | None) -> bool:
    """Return whether a beta allows thinking between tool calls. With this beta, the thinking budget may exceed
    `max_tokens`.
    """
    return any(beta.startswith("interleaved-thinking-") for beta in betas or ())


def is_blank(text: str) -> bool:
    return not text.strip()


def bad_signature(signature: Any) -> bool:
    """Return whether the signature of a thinking block comes from anything but the simulator."""
    return not (isinstance(signature, str) and signature.startswith(SIGNATURE))


def mistaken_image(data: str, declared: str) -> str:
    """Return the real format of an image whose declared format is wrong, or "" if the declaration is right.

    The real format is found by the first bytes of the image. If they belong to no known format, "" is returned too.
    """
    head = base64.b64decode(data[:24])
    formats = [name for name, magic in _MAGIC.items() if re.match(magic, head, re.DOTALL)]
    return "" if not formats or declared in formats else formats[0]


def sampling_faults(settings: Settings, caps: Caps) -> Iterator[str]:
    """Yield faults of temperature, top_p and top_k (litellm#15070)."""
    given = [name for name in ("temperature", "top_p", "top_k") if getattr(settings, name) is not None]
    if caps.sampling == "none" and given:
        yield f"`{given[0]}` is deprecated for this model."
    if caps.sampling == "one" and {"temperature", "top_p"} <= set(given):
        yield "`temperature` and `top_p` cannot both be specified for this model. Please use only one."


def thinking_faults(settings: Settings, caps: Caps) -> Iterator[str]:
    """Yield faults of the thinking parameters: a form unknown to the model, a wrong budget, or conflicts."""
    thinking = settings.thinking
    if thinking is None:
        return
    off = caps.thinking_off or "disabled"
    if tag_of(thinking) not in {"enabled", "adaptive", "disabled", off}:
        yield "thinking: Input tag must be one of 'adaptive', 'disabled', 'enabled'"
        return
    for name in thinking.keys() - {"type", "budget_tokens", "display", "between_tools"}:
        yield f"thinking.{thinking['type']}.{name}: Extra inputs are not permitted"
    yield from _form_faults(thinking["type"], caps)
    if thinking["type"] == "enabled":
        yield from _budget_faults(thinking.get("budget_tokens"), settings)
    if settings.thinks:
        yield from _beside_thinking(settings, caps)


def _form_faults(form: str, caps: Caps) -> Iterator[str]:
    if form not in {"enabled", "adaptive"}:
        if caps.thinks_by_default and form != caps.thinking_off:
            yield f'"thinking.type.{form}" is not supported for this model.'
        return
    if caps.reasoning == "none" and caps.family:
        yield "thinking: Extra inputs are not permitted"
    if form == "adaptive" and caps.reasoning == "budget":
        yield "adaptive thinking is not supported on this model"
    if form == "enabled" and caps.reasoning == "adaptive" and caps.sampling == "none":
        # Opus 4.7 dropped budgets and sampling together; Opus 4.6 accepts both forms of thinking
        yield (
            '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and'
            ' "output_config.effort" to control thinking behavior.'
        )


def _budget_faults(budget: Any, settings: Settings) -> Iterator[str]:
    if not isinstance(budget, int) or isinstance(budget, bool):
        yield "thinking.enabled.budget_tokens: Field required"
        return
    if budget < MIN_BUDGET:
        yield f"thinking.enabled.budget_tokens: Input should be greater than or equal to {MIN_BUDGET}"
    if settings.max_tokens is not None and budget >= settings.max_tokens and not interleaves(settings.betas):
        yield "`max_tokens` must be greater than `thinking.budget_tokens`."


def _beside_thinking(settings: Settings, caps: Caps) -> Iterator[str]:
    if settings.forced and not caps.forced_tool_choice_with_thinking:
        yield "Thinking may not be enabled when tool_choice forces tool use."
    if settings.temperature not in {None, 1}:
        yield "`temperature` may only be set to 1 when thinking is enabled."
    if settings.top_p is not None and settings.top_p < MIN_TOP_P:
        yield f"`top_p` must be greater than or equal to {MIN_TOP_P} or unset when thinking is enabled."
    if settings.top_k is not None:
        yield "`top_k` must be unset when thinking is enabled."


def effort_faults(settings: Settings, caps: Caps) -> Iterator[str]:
    """Yield a fault if the effort is not a string, or is not supported by a model with adaptive thinking.

    Older models need a beta for the effort. Their efforts are not checked.
    """
    if settings.effort is not None and not isinstance(settings.effort, str):
        yield "output_config.effort: Input should be a valid string"
    elif settings.effort is not None and caps.reasoning == "adaptive" and settings.effort not in caps.efforts:
        allowed = ", ".join(f"'{effort}'" for effort in caps.efforts)
        yield f"output_config.effort: Input should be {allowed}"
    elif _is_off(settings, caps) and settings.effort in {"xhigh", "max"} and caps.effort_without_thinking == "high":
        yield f"output_config.effort: '{settings.effort}' is not supported while thinking is disabled"  # aiquila#410


def _is_off(settings: Settings, caps: Caps) -> bool:
    return bool(caps.thinking_off) and member(settings.thinking, "type") == caps.thinking_off


def ttl_faults(ttls: Iterable[str | None]) -> Iterator[str]:
    """Yield a fault if a cache point with a lifetime of one hour comes after one with five minutes (the default)."""
    seen = list(ttls)
    if "1h" in seen and any(ttl != "1h" for ttl in seen[: len(seen) - seen[::-1].index("1h")]):
        yield TTL_ORDER


def beta_faults(betas: Any) -> Iterator[str]:
    """Yield faults of `anthropic_beta` in a body for Bedrock."""
    if betas is None:
        return
    if not isinstance(betas, list) or not all(isinstance(beta, str) for beta in betas):
        yield "anthropic_beta: Input should be a valid list"
    elif any(beta.startswith(_BAD_BETAS) for beta in betas):
        yield "invalid beta flag"


def schema_faults(schema: Any, at: str) -> Iterator[str]:
    """Yield the faults in the top-level keywords of a tool's schema: `type`, `properties`, oneOf, allOf and anyOf.

    Sources: pi#8279, kiro-gateway#232, and bifrost#1720 (`properties: null`).
    """
    if not isinstance(schema, dict):
        yield f"{at}: Input should be a valid dictionary"
        return
    if "type" not in schema:
        yield f"{at}.type: Field required"
    elif schema["type"] != "object":
        yield f"{at}.type: Input should be 'object'"
    if any(name in schema for name in ("oneOf", "allOf", "anyOf")):
        yield f"{at}: {ROOT_CHOICES}"
    if not isinstance(schema.get("properties", {}), dict):
        yield f"{at}.properties: Input should be a valid dictionary"


def property_faults(schema: Any, at: str) -> Iterator[str]:
    """Yield a fault if the root of a schema has a property with a name that Claude refuses (goose#1804,
    claude-code#79418).
    """
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if isinstance(properties, dict) and not all(map(_PROPERTY.fullmatch, properties)):
        yield f"{at}.properties: Property keys should match pattern '^{_PROPERTY.pattern}$'"


__all__ = [
    "AGAIN",
    "MAX_CACHE_POINTS",
    "MODEL_SAYS",
    "PREFILL",
    "SIGNATURE",
    "TRAILING_SPACE",
    "Block",
    "Body",
    "Rule",
    "Settings",
    "bad_signature",
    "beta_faults",
    "effort_faults",
    "first",
    "interleaves",
    "is_blank",
    "judged",
    "member",
    "mistaken_image",
    "permitting",
    "property_faults",
    "sampling_faults",
    "schema_faults",
    "tag_of",
    "thinking_faults",
    "ttl_faults",
]
