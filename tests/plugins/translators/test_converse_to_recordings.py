"""Tests of recorded Converse requests on the conversions from Converse: each field is sent, or refused by an error that
names it.
"""

from __future__ import annotations

import json

import pytest

from gateway.contract.errors import Refused
from tests.helpers.converse_to import CHAT, MESSAGES
from tests.helpers.recordings import exchanges

recorded = pytest.mark.parametrize("exchange", exchanges("converse", "converse-stream", status=200))
CONVERSIONS = {"messages": MESSAGES, "chat": CHAT}

REFUSED = ("s3Location", "systemTool", "video", "promptVariables", "docx", "xlsx", "toolConfig.tools")
"""Names for which a conversion may refuse a recorded request: fields of Bedrock only, and file types that other
dialects lack."""


def text_of(value):
    """Return the concatenation of all texts of a body."""
    if isinstance(value, dict):
        return "".join(text_of(inner) for inner in value.values())
    if isinstance(value, list):
        return "".join(map(text_of, value))
    return value if isinstance(value, str) else ""


def said(exchange):
    """Return the texts in the client's request that must reach the model."""
    return [
        block["text"]
        for message in exchange["request"]["messages"]
        for block in message["content"]
        if block.get("text", "").strip()
    ]


@recorded
@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_a_recorded_request_is_carried_or_refused_by_name(exchange, conversion):
    body = exchange["request"]
    judged = "signature" not in json.dumps(body) and "redactedContent" not in json.dumps(body)
    try:
        translation, _ = CONVERSIONS[conversion].open(body, judged=judged)
    except Refused as refused:
        problem = refused.problem
    else:
        problem = None
        carried = text_of(json.loads(translation.request.top.body))
        assert all(text.strip() in carried for text in said(exchange))
    assert problem is None or any(name in f"{problem.param} {problem.message}" for name in REFUSED)
