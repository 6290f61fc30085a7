"""Rules for Converse bodies. They find faults that botocore's service model allows, but for which Bedrock refuses a
body.

The rules are about turns, documents, cache points and thinking. They need bodies that `testkit/judge.py` has accepted.
The wording of a fault is Bedrock's if a source shows it. Differences between models come from the capabilities of the
model. Sources: recorded traffic, LiteLLM, pydantic-ai, and the issues of other projects that are named beside the
rules.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from gateway.contract.capabilities import Caps
from gateway.testkit.rules import common as rules
from gateway.testkit.rules import converse_body
from gateway.testkit.rules import converse_tools as rules_converse_tools
from gateway.testkit.rules.common import AGAIN, MODEL_SAYS, Block, Body, Rule

_NO_POINT_BEHIND: Final = frozenset({"csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"})
"""Formats of documents after which no cache point may directly follow (opencode#17300). These documents are converted
to text."""
_DOCUMENT_NAME: Final = re.compile(r"(?:[A-Za-z0-9_\-()\[\]]|\s(?!\s))+", re.ASCII)
"""The allowed names of documents. The underscore is not documented, but the real service accepted it."""
_CLAUDE_FIELDS: Final = frozenset(
    {"anthropic_beta", "context_management", "metadata", "output_config", "thinking", "tool_choice", "tools", "top_k"}
)
_REASONING_FIELDS: Final = {
    "thinking": {"budget", "adaptive"},
    "reasoning_effort": {"reasoning_effort"},
    "reasoning": {"reasoning.effort"},
    "reasoning_config": {"reasoning_config"},
    "reasoningConfig": {"nova"},
}
"""Fields of additionalModelRequestFields that ask for thinking. A field maps to values of `Caps.reasoning`. Only models
that have one of these values accept the field.

Source: agentgateway#3442.
"""


def converse_fault(body: Body, caps: Caps) -> str | None:
    """Return the first fault of a body of Converse, ConverseStream or CountTokens (`input.converse`), or None."""
    return rules.judged(_RULES, body, rules.permitting(caps))


def _turns(body: Body, caps: Caps) -> Iterator[str]:
    messages = converse_body.messages(body)
    for number, message in enumerate(messages):
        if not message["content"]:
            yield (
                f"The content field in the Message object at messages.{number} is empty."
                f" Add a ContentBlock object to the content field {AGAIN}"
            )
    roles = [message["role"] for message in messages if message["role"] != "system"]
    if not roles or (roles[0] == "assistant" and not caps.leading_assistant):
        yield (
            "A conversation must start with a user message."
            " Try again with a conversation that starts with a user message."
        )
    if any(one == other for one, other in pairwise(roles)):
        yield (
            "A conversation must alternate between user and assistant roles."
            f" Make sure the conversation alternates between user and assistant roles {AGAIN}"
        )


def _system_turns(body: Body, caps: Caps) -> Iterator[str]:
    """Yield faults of system messages in `messages`. Only some models accept such messages.

    A system message must follow a user message. It must be the last message, or an assistant message must follow it
    (bifrost#3945).
    """
    roles = ["", *(message["role"] for message in converse_body.messages(body)), ""]
    for number in (number for number, role in enumerate(roles) if role == "system"):
        if not caps.mid_system:
            yield f'{MODEL_SAYS}messages: Unexpected role "system".'
        if roles[number - 1] != "user" or roles[number + 1] not in {"assistant", ""}:
            yield f"{MODEL_SAYS}messages.{number - 1}: a system message must follow a user message and end its turn"


def _system(body: Body, caps: Caps) -> Iterator[str]:
    blocks = body.get("system") or ()
    if blocks and not caps.system:
        yield "This model doesn't support system messages. Try again without a system message or use another model."
    for index, block in enumerate(blocks):
        if rules.is_blank(block.get("text") or "."):
            yield _blank("SystemContentBlock", f"system.{index}")


def _blank(kind: str, at: str) -> str:
    return f"The text field in the {kind} object at {at} is blank. Add text to the text field, {AGAIN}"


def _texts(body: Body, _: Caps) -> Iterator[str]:
    """Yield a fault for each blank text block, except a newline right after a document.

    Bedrock accepts this newline (recorded traffic of pydantic-ai, test_bedrock_cache_write_and_read).
    """
    before = ""
    for at, _role, kind, value in converse_body.placed(body):
        if kind == "text" and rules.is_blank(value) and not (value == "\n" and before == "document"):
            yield _blank("ContentBlock", at)
        before = kind
    for at, _role, kind, value in converse_body.in_results(body):
        if kind == "text" and rules.is_blank(value):
            yield _blank("ToolResultContentBlock", at)


def _end(body: Body, caps: Caps) -> Iterator[str]:
    last = converse_body.messages(body)[-1]
    if last["role"] != "assistant":
        return
    if not caps.prefill:
        yield MODEL_SAYS + rules.PREFILL
    text = last["content"][-1].get("text") or ""
    if text != text.rstrip():
        yield MODEL_SAYS + rules.TRAILING_SPACE


def _roles(body: Body, _: Caps) -> Iterator[str]:
    own = {
        "toolUse": "assistant",
        "reasoningContent": "assistant",
        "image": "user",
        "document": "user",
        "video": "user",
    }
    for at, role, kind, _value in converse_body.placed(body):
        if own.get(kind, role) != role:
            yield f"The {kind} block at {at} is not allowed in a message of the role {role}. Remove it {AGAIN}"


def _documents(body: Body, caps: Caps) -> Iterator[str]:
    names: list[str] = []
    for at, _role, kind, value in (*converse_body.placed(body), *converse_body.in_results(body)):
        if kind == "document":
            names.append(value["name"])
            if not _DOCUMENT_NAME.fullmatch(value["name"]):  # vercel/ai#20365, opencode#19964
                yield (
                    f"The document file name at {at} can only contain alphanumeric characters, whitespace characters,"
                    " hyphens, parentheses, and square brackets. The name can't contain more than one consecutive"
                    " whitespace character."
                )
    if len(set(names)) < len(names):  # bifrost#7003
        yield f"The request has duplicate document file names. Make them unique {AGAIN}"
    if names and not caps.documents:
        yield "This model doesn't support documents."
    for number, message in enumerate(converse_body.messages(body)):
        kinds = [block.kind for block in converse_body.content(message, number)]
        if "document" in kinds and "text" not in kinds:  # archestra#4220
            yield f"messages.{number}.content has a document but no text. Add a text block beside the document {AGAIN}"


def _images(body: Body, caps: Caps) -> Iterator[str]:
    for at, _role, kind, value in (*converse_body.placed(body), *converse_body.in_results(body)):
        if kind != "image":
            continue
        if not caps.images:
            yield "This model doesn't support images."
        data = value["source"].get("bytes")
        if data and rules.mistaken_image(data, value["format"]):
            yield f"{MODEL_SAYS}{at}.image: Image does not match the provided media type image/{value['format']}"


def _points(body: Body) -> list[tuple[str, list[Block]]]:
    """Return the lists that may have cache points, each as (path, blocks), in the order in which Bedrock reads them."""
    lists = [("toolConfig.tools", [*converse_body.tools(body)]), ("system", [*(body.get("system") or ())])]
    contents = (
        (f"messages.{number}.content", message["content"])
        for number, message in enumerate(converse_body.messages(body))
    )
    return [*lists, *contents]


def _cache_points(body: Body, caps: Caps) -> Iterator[str]:
    ttls: list[str | None] = []
    for at, blocks in _points(body):
        allowed = caps.tool_cache_points if at == "toolConfig.tools" else caps.cache_points
        for index, block in enumerate(blocks):
            if "cachePoint" not in block:
                continue
            ttls.append(block["cachePoint"].get("ttl"))
            if not allowed:
                yield f"You invoked an unsupported model or your request did not allow prompt caching: {at}.{index}"
            if ttls[-1] and not caps.cache_ttl:
                yield f"{at}.{index}.cachePoint.ttl is not supported by this model. Remove it {AGAIN}"
            if index == 0 or _takes_no_point(blocks[index - 1]):  # opencode#17300, strands#1966
                yield f"The cachePoint block at {at}.{index} has nothing before it that can be cached. Move it {AGAIN}"
    if len(ttls) > rules.MAX_CACHE_POINTS:
        yield (
            f"{MODEL_SAYS}A maximum of {rules.MAX_CACHE_POINTS} blocks with cache_control may be provided."
            f" Found {len(ttls)}."
        )
    yield from (MODEL_SAYS + fault for fault in rules.ttl_faults(ttls))


def _takes_no_point(block: Block) -> bool:
    document = block.get("document") or {}
    return document.get("format") in _NO_POINT_BEHIND or "reasoningContent" in block or "cachePoint" in block


def _reasoning(body: Body, caps: Caps) -> Iterator[str]:
    for at, _role, kind, value in converse_body.placed(body):
        if kind != "reasoningContent":
            continue
        text = value.get("reasoningText")
        if text and caps.signed_reasoning and rules.bad_signature(text.get("signature")):
            yield f"{MODEL_SAYS}{at}: Invalid `signature` in `thinking` block"
        if not text and not caps.redacted_reasoning:
            yield f"{at}.reasoningContent.redactedContent is not supported by this model. Remove it {AGAIN}"
        if not text and not _is_text(value["redactedContent"]):
            yield f"{MODEL_SAYS}{at}: Invalid `data` in `redacted_thinking` block"
    for number, message in enumerate(converse_body.messages(body)):
        if caps.signed_reasoning and "reasoningContent" in message["content"][-1]:
            yield f"{MODEL_SAYS}messages.{number}: The final block in an assistant message cannot be `thinking`."


def _is_text(data: str) -> bool:
    """Return whether base64 data decodes to ASCII.

    Encrypted thinking does, because Bedrock encodes Anthropic's base64 text in base64 once more (recorded traffic).
    """
    return base64.b64decode(data).isascii()


def _thinking_in_tool_loop(body: Body, _: Caps) -> Iterator[str]:
    """Yield a fault if the last message has tool results, and the message before it does not begin with thinking.

    This rule applies only to a request with a thinking budget and without the beta for interleaved thinking
    (RooCode#11238).
    """
    fields = converse_body.extra_fields(body)
    if rules.tag_of(fields.get("thinking")) != "enabled" or rules.interleaves(fields.get("anthropic_beta")):
        return
    turns = [message for message in converse_body.messages(body) if message["role"] != "system"]
    answers = turns[-1]["role"] == "user" and any("toolResult" in block for block in turns[-1]["content"])
    kind = converse_body.kind_of(turns[-2]["content"][0]) if answers and len(turns) > 1 else "reasoningContent"
    if kind != "reasoningContent":
        yield f"{MODEL_SAYS}Expected `thinking` or `redacted_thinking`, but found `{kind}`."


def _settings(body: Body, caps: Caps) -> Iterator[str]:
    config = body.get("inferenceConfig") or {}
    extra = converse_body.extra_fields(body)
    choice = (body.get("toolConfig") or {}).get("toolChoice") or {}
    yield from (MODEL_SAYS + fault for fault in rules.beta_faults(extra.get("anthropic_beta")))
    settings = rules.Settings(
        thinking=extra.get("thinking"),
        effort=rules.member(extra.get("output_config"), "effort"),
        max_tokens=config.get("maxTokens"),
        temperature=config.get("temperature"),
        top_p=config.get("topP"),
        top_k=extra.get("top_k"),
        forced="any" in choice or "tool" in choice,
        betas=tuple(extra.get("anthropic_beta") or ()),
    )
    for check in (rules.sampling_faults, rules.thinking_faults, rules.effort_faults):
        yield from (MODEL_SAYS + fault for fault in check(settings, caps))
    if (config.get("maxTokens") or caps.min_max_tokens) < caps.min_max_tokens:
        yield f"{MODEL_SAYS}max_tokens: Input should be greater than or equal to {caps.min_max_tokens}"
    stops = config.get("stopSequences") or ()
    if stops and not caps.stop_sequences:
        yield f"This model doesn't support the stopSequences field. Remove stopSequences {AGAIN}"
    if caps.family == "claude" and any(map(rules.is_blank, stops)):
        yield f"{MODEL_SAYS}stop_sequences: each stop sequence must contain non-whitespace"


def _extra_fields(body: Body, caps: Caps) -> Iterator[str]:
    for name in converse_body.extra_fields(body):
        foreign = caps.family and caps.reasoning not in _REASONING_FIELDS.get(name, {caps.reasoning})
        if foreign or (caps.family == "claude" and name not in _CLAUDE_FIELDS):
            yield f"{MODEL_SAYS}{name}: Extra inputs are not permitted"


def _output_format(body: Body, caps: Caps) -> Iterator[str]:
    if (body.get("outputConfig") or {}).get("textFormat") and not caps.json_schema:
        yield f"This model doesn't support the outputConfig.textFormat field. Remove it {AGAIN}"


_RULES: Final[tuple[Rule, ...]] = (
    _turns, _system_turns, _system, _texts, _roles, *rules_converse_tools.RULES, _documents, _images, _cache_points,
    _reasoning, _extra_fields, _settings, _thinking_in_tool_loop, _output_format, _end,
)  # fmt: skip
"""All rules, in order. A rule may rely on what the rules before it have checked."""
