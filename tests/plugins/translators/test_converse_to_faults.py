"""Tests of faults at every place of a Converse request. The faulty field is sent, dropped, or refused with `Refused`.
No other exception is raised.
"""

from __future__ import annotations

import pytest

from gateway.contract.errors import Refused
from tests.helpers.converse_to import (
    ADAPTIVE,
    CHAT,
    DOCUMENT,
    FORMAT,
    IMAGE,
    INVOKE,
    MESSAGES,
    MINE,
    POINT,
    THINKER,
    TOOL,
    assistant,
    blob,
    call,
    result,
    system,
    user,
)
from tests.helpers.json_faults import MISSING, changed, paths

CITED = {
    "content": [{"text": "So."}],
    "citations": [
        {
            "title": "paper",
            "source": "s",
            "sourceContent": [{"text": "words"}],
            "location": {"documentChar": {"documentIndex": 0, "start": 0, "end": 1}},
        },
        {"location": {"web": {"url": "https://example.com", "domain": "example.com"}}},
    ],
}
SEARCH = {"searchResult": {"source": "s", "title": "t", "content": [{"text": "x"}], "citations": {"enabled": True}}}
TEXT = {
    "document": {"name": "n", "source": {"content": [{"text": "one"}]}, "context": "c", "citations": {"enabled": True}}
}
EVERYTHING = {
    "modelId": "m",
    "system": [{"text": "Be brief."}, {"guardContent": {"text": {"text": "x", "qualifiers": ["query"]}}}, POINT],
    "messages": [
        user({"text": "Hi"}, IMAGE, DOCUMENT, TEXT, SEARCH, POINT),
        assistant(
            {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": MINE}}},
            {"reasoningContent": {"redactedContent": blob("irisgate1:claude:ZW5j")}},
            {"text": "So"},
            call(city="Bern"),
            call("b", "find"),
        ),
        user(
            result({"text": "x"}, {"json": {"a": [1]}}, IMAGE, SEARCH, status="success"),
            result({"text": "y"}, tool_id="b", status="error", type="x"),
            {"guardContent": {"text": {"text": "And?"}}},
        ),
        system({"text": "Go on."}),
        assistant({"citationsContent": CITED}),
        user({"text": "And?"}, {"cachePoint": {"type": "default", "ttl": "1h"}}),
    ],
    "inferenceConfig": {"maxTokens": 4000, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
    "toolConfig": {"tools": [TOOL, POINT, {"toolSpec": {"name": "find", "strict": True}}], "toolChoice": {"any": {}}},
    "additionalModelRequestFields": {
        "thinking": {"type": "enabled", "budget_tokens": 2000, "display": "summarized"},
        "top_k": 5,
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "anthropic_beta": ["a"],
        "output_config": {"effort": "low"},
        "reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"},
        "inferenceConfig": {"topK": 5},
    },
    "additionalModelResponseFieldPaths": ["/stop_sequence"],
    "requestMetadata": {"a": "b"},
    "performanceConfig": {"latency": "optimized"},
    "serviceTier": {"type": "priority"},
    "outputConfig": {**FORMAT, "effort": "low"},
}
JUNK = [MISSING, None, 0, 1.5, True, "junk", [], {"a": 1}, [1]]
CONVERSIONS = {"messages": MESSAGES, "adaptive": ADAPTIVE, "invoke": INVOKE, "chat": CHAT, "thinker": THINKER}


@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_everything_at_once_is_carried(conversion):
    CONVERSIONS[conversion].open(EVERYTHING)


FOREIGN = {"signature", "redactedContent"}
"""Fields with opaque values, which only the server that made them can interpret. So any text is accepted in them."""


def outcome(conversion, body, *, stream):
    """Return the name of the refused field, or "" if the request is accepted by the gateway and by the simulated
    provider.
    """
    try:
        conversion.open(body, stream=stream)
    except Refused as refused:
        return refused.problem.param or "no field is named"
    return ""


@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_a_fault_anywhere_is_carried_dropped_or_refused(conversion):
    for number, path in enumerate(paths(EVERYTHING)):
        for junk in JUNK:
            if not (junk == "junk" and path[-1] in FOREIGN):
                body = changed(EVERYTHING, path, junk)
                assert outcome(CONVERSIONS[conversion], body, stream=number % 2 == 0) != "no field is named"
