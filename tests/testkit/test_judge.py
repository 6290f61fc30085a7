"""Tests of the validation by botocore's service model: what the service model forbids is refused, and real traffic is
accepted.
"""

import base64
import json
import warnings
from pathlib import Path
from urllib.parse import unquote

import pytest

from gateway.testkit import judge as judging
from gateway.testkit.judge import BAD_MODEL, TestkitError, judge, model_id_fault

RECORDINGS = Path(__file__).resolve().parents[2].parent / "shared" / "recorded-bedrock"
OPERATIONS = {"converse": "Converse", "converse-stream": "ConverseStream", "count-tokens": "CountTokens"}
HELLO = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
ARN = "arn:aws:bedrock:us-east-1:123456789012:"


def content(*blocks):
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def test_every_recorded_request_that_was_taken_passes():
    if not RECORDINGS.is_dir():
        pytest.skip("recordings of Bedrock are not beside the checkout")
    judged = 0
    for path in sorted(RECORDINGS.glob("*.json")):
        for exchange in json.loads(path.read_text()):
            if exchange["status"] != 200 or not isinstance(exchange["request"], dict):  # one was cut while recorded
                continue
            _, _, model, operation = exchange["path"].split("/")
            assert judge(OPERATIONS[operation], exchange["request"]) is None, path.name
            assert model_id_fault(unquote(model)) is None, path.name
            judged += 1
    assert judged > 80


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ([], "expected type: JSONObject, found: JSONArray"),
        ({**HELLO, "modelId": "m"}, "extraneous key [modelId] is not permitted"),
        ({**HELLO, "max_tokens": 5}, "extraneous key [max_tokens] is not permitted"),
        ({**HELLO, "inferenceConfig": {"maxTokens": 0}}, "Value '0' at 'inferenceConfig.maxTokens' failed to satisfy"),
        ({**HELLO, "inferenceConfig": {"maxTokens": True}}, "#/inferenceConfig/maxTokens: expected type: Integer"),
        ({**HELLO, "inferenceConfig": {"temperature": 1.5}}, "Member must have value less than or equal to 1"),
        ({**HELLO, "inferenceConfig": {"temperature": "1"}}, "expected type: Number, found: String"),
        ({**HELLO, "inferenceConfig": {"stopSequences": [""]}}, "greater than or equal to 1"),
        ({**HELLO, "toolConfig": {"tools": []}}, "Member must have length greater than or equal to 1"),
        ({**HELLO, "system": [{"text": ""}]}, "'system.1.member.text'"),
        ({**HELLO, "requestMetadata": {"a|b": "c"}}, "Member must satisfy regular expression pattern"),
        ({**HELLO, "requestMetadata": []}, "expected type: JSONObject, found: JSONArray"),
        ({"messages": {}}, "#/messages: expected type: JSONArray"),
        ({"messages": [{"role": "user"}]}, "'messages.1.member.content' failed to satisfy constraint: Member must not"),
        ({"messages": [{"role": "tool", "content": []}]}, "enum value set: [user, assistant, system]"),
        (content({"text": 5}), "#/messages/0/content/0/text: expected type: String, found: Number"),
        (content({}), "exactly one of [text, image"),
        (content({"text": "a", "cachePoint": {"type": "default"}}), "exactly one of"),
        (content({"image": {"format": "jpg", "source": {"bytes": "QQ=="}}}), "Value 'jpg' at 'messages.1.member."),
        (content({"image": {"format": "png", "source": {"bytes": "no!"}}}), "is no valid base64"),
        (content({"image": {"format": "png", "source": {"bytes": 5}}}), "expected type: String, found: Number"),
        (content({"toolUse": {"toolUseId": "a b", "name": "t", "input": {}}}), "Value 'a b' at"),
        (content({"toolUse": {"toolUseId": "a", "name": "t.u", "input": {}}}), "[a-zA-Z0-9_-]+"),
        (content({"toolUse": {"toolUseId": "a", "name": "t" * 65, "input": {}}}), "less than or equal to 64"),
    ],
)
def test_a_body_against_the_model_is_refused_in_awss_words(body, fault):
    assert fault in judge("Converse", body)


def test_a_long_value_is_not_repeated():
    fault = judge("Converse", content({"toolUse": {"toolUseId": "a" * 900, "name": "t", "input": {}}}))
    assert fault.startswith("1 validation error detected: Value at 'messages.1.member.content.1.member.toolUse")


def test_a_member_that_is_null_is_absent():
    assert judge("Converse", {**HELLO, "system": None, "unknown": None}) is None


def test_a_document_holds_any_json():
    assert judge("Converse", {**HELLO, "additionalModelRequestFields": {"a": [None, {"b": 1.5}]}}) is None
    assert judge("Converse", content({"toolUse": {"toolUseId": "a", "name": "t", "input": "text"}})) is None


def test_a_guardrail_has_a_processing_mode_in_a_stream_only():
    body = {**HELLO, "guardrailConfig": {"streamProcessingMode": "sync"}}
    assert judge("ConverseStream", body) is None
    assert "extraneous key [streamProcessingMode]" in judge("Converse", body)


def test_count_tokens_takes_exactly_one_input():
    body = base64.b64encode(b"{}").decode()
    assert judge("CountTokens", {"input": {"invokeModel": {"body": body}}}) is None
    assert "exactly one of" in judge("CountTokens", {"input": {"invokeModel": {"body": body}, "converse": HELLO}})
    assert "Member must not be null" in judge("CountTokens", {})


def test_a_body_of_invoke_model_is_the_models_own():
    assert judge("InvokeModel", {"anything": 1}) is None


@pytest.mark.parametrize(
    "model",
    [
        "anthropic.claude-opus-4-7",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        ARN + "application-inference-profile/abc123",
        "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-micro-v1:0",
        "arn:aws:sagemaker:us-east-1:123456789012:endpoint/mine",
    ],
)
def test_a_models_id_may_be_a_name_or_an_arn(model):
    assert model_id_fault(model) is None


@pytest.mark.parametrize("model", ["", "a b", "claude/sonnet", ARN + "application-inference-profile/", "x" * 3000])
def test_a_models_id_of_another_form_is_refused(model):
    assert model_id_fault(model) == BAD_MODEL


def test_python_reads_every_pattern_of_the_model():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        patterns = [shape["pattern"] for shape in judging._service()["shapes"].values() if "pattern" in shape]
        assert [judging._pattern(pattern) for pattern in patterns]


def test_without_botocore_one_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "botocore.loaders", None)
    with pytest.raises(TestkitError, match=r"install irisgate\[testkit\]"):
        judging._service.__wrapped__()
