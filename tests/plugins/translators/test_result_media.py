"""Tests of files in a tool's result. The file formats that are accepted there differ by model.

A file that the model does not accept inside the result is sent after the result. Sources: pydantic-ai#6081 and recorded
traffic (for Claude).
"""

import base64

import pytest

from gateway.contract.capabilities import capabilities
from tests.helpers.conversion import CONVERSIONS, PNG

PDF = base64.b64encode(b"%PDF-1.4\n").decode()
FILES = {
    "image": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
    "pdf": {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}},
    "txt": {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
}
MODELS = {
    # model: files that stay inside the result
    "us.anthropic.claude-haiku-4-5-20251001-v1:0": {"image", "pdf", "txt"},
    "us.amazon.nova-pro-v1:0": {"image", "txt"},
    "us.amazon.nova-2-lite-v1:0": {"image", "txt"},
    "us.meta.llama4-maverick-17b-instruct-v1:0": {"image", "pdf", "txt"},
    "us.mistral.pixtral-large-2502-v1:0": {"pdf", "txt"},
    "qwen.qwen3-vl-235b-a22b": set(),
    "moonshotai.kimi-k2.5": set(),
    "openai.gpt-5.6-sol": set(),
}


def result(call):
    """Return the formats of the files inside the tool's result, and of the files after it."""
    blocks = [block for message in call.sent["messages"] for block in message["content"]]
    inside = [part for block in blocks if "toolResult" in block for part in block["toolResult"]["content"]]
    return formats(inside), formats(blocks)


def formats(blocks):
    kinds = {"image": lambda block: "image", "document": lambda block: block["document"]["format"]}
    return {kinds[kind](block) for block in blocks for kind in kinds if kind in block}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("client", ["anthropic_messages", "bedrock_model_invoke"])
def test_a_file_stays_inside_the_result_only_where_the_model_takes_it(client, model, kind):
    body = {
        "max_tokens": 50,
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [FILES[kind]]}]},
        ],
    }
    call = CONVERSIONS[f"{client}__bedrock_converse"].call(body, caps=capabilities(model))
    assert call.fault is None
    inside, beside = result(call)
    assert (inside, beside) == (({kind}, set()) if kind in MODELS[model] else (set(), {kind}))
    opposite = capabilities(
        model,
        {
            "tool_result_images": kind not in MODELS[model],
            "tool_result_documents": "none" if kind in MODELS[model] else "all",
        },
    )
    inside, _ = result(CONVERSIONS[f"{client}__bedrock_converse"].call(body, caps=opposite))
    assert inside == (set() if kind in MODELS[model] else {kind})
