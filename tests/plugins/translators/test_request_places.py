"""Tests of fields that are at different places in different dialects: metadata, URLs of files, system messages before
the first turn, guardrail marks.
"""

import json
import re

import pytest

from gateway.contract.errors import Refused
from gateway_plugins import anthropic_messages
from tests.helpers.conversion import CONVERSIONS, PNG
from tests.plugins.translators.test_foreign_history import of

PDF = "JVBERi0xLjQKJcOkw7zDtsOfCg=="
PLAIN = {"max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}


@of("anthropic_messages", "translated")
@pytest.mark.parametrize(
    ("metadata", "dropped"),
    [
        ({"user_id": "u"}, ["/metadata"]),
        ({"user_id": None}, []),
        ({}, []),
        (None, []),
        ({"user_id": "", "b": 1}, ["/metadata"]),
    ],
)
def test_metadata_without_a_place_is_reported(conversion, metadata, dropped):
    call = conversion.call(PLAIN | {"metadata": metadata})
    assert (call.dropped, call.fault) == (dropped, None)


def test_metadata_stays_where_the_api_is_claudes():
    call = CONVERSIONS["anthropic_messages__bedrock_model_invoke"].call(PLAIN | {"metadata": {"user_id": "u"}})
    assert (call.sent["metadata"], call.dropped) == ({"user_id": "u"}, [])


@of("openai_responses")
@pytest.mark.parametrize(
    ("file", "words"),
    [
        ({"file_url": f"data:application/pdf;base64,{PDF}"}, PDF),
        ({"file_url": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}, PDF),
        ({"file_url": f"DATA:application/pdf;base64,{PDF}"}, PDF),
        ({"file_url": "data:text/plain,whales%20sing"}, "whales sing"),
    ],
)
def test_a_file_url_may_be_a_data_url(conversion, file, words):
    content = [{"type": "input_text", "text": "read"}, {"type": "input_file", **file}]
    call = conversion.call({"input": [{"role": "user", "content": content}]})
    assert (call.dropped, call.fault) == ([], None)
    text = json.dumps(call.sent)
    assert words in text or "d2hhbGVzIHNpbmc" in text


@of("anthropic_messages", "invoke")
@pytest.mark.parametrize(("kind", "mime", "data"), [("image", "image/png", PNG), ("document", "application/pdf", PDF)])
def test_a_source_of_type_url_may_be_a_data_url(conversion, kind, mime, data):
    block = {"type": kind, "source": {"type": "url", "url": f"data:{mime};base64,{data}"}}
    call = conversion.call({"max_tokens": 100, "messages": [{"role": "user", "content": [block]}]})
    assert (call.dropped, call.fault) == ([], None)
    assert data in json.dumps(call.sent)


@of("anthropic_messages", "invoke")
def test_a_broken_data_url_is_refused_by_its_field(conversion):
    block = {"type": "image", "source": {"type": "url", "url": "data:image/png;base64,%%%"}}
    with pytest.raises(Refused) as refused:
        conversion.call({"max_tokens": 100, "messages": [{"role": "user", "content": [block]}]})
    assert refused.value.problem.param == "messages[0].content[0].source.url"


LEADING = {
    "anthropic_messages": {"max_tokens": 100, "system": "one", "messages": [
        {"role": "system", "content": "two"}, {"role": "system", "content": [{"type": "text", "text": "three"}]},
        {"role": "user", "content": "Hi"}]},
    "bedrock_converse": {"system": [{"text": "one"}], "messages": [
        {"role": "system", "content": [{"text": "two"}]}, {"role": "system", "content": [{"text": "three"}]},
        {"role": "user", "content": [{"text": "Hi"}]}]},
    "openai_chat": {"messages": [
        {"role": "system", "content": "one"}, {"role": "developer", "content": "two"},
        {"role": "system", "content": "three"}, {"role": "user", "content": "Hi"}]},
    "openai_responses": {"instructions": "one", "input": [
        {"role": "system", "content": "two"}, {"role": "developer", "content": "three"}, {"role": "user", "content": "Hi"}]},
    "gemini_generate_content": {
        "systemInstruction": {"parts": [{"text": "one"}, {"text": "two"}, {"text": "three"}]},
        "contents": [{"parts": [{"text": "Hi"}]}]},
}  # fmt: skip


@pytest.mark.parametrize("conversion", CONVERSIONS.values(), ids=CONVERSIONS)
def test_system_messages_before_the_first_turn_stay_the_systems(conversion):
    call = conversion.call(LEADING[conversion.dialect])
    assert "system-reminder" not in json.dumps(call.sent)
    if conversion.provider.name == "anthropic_messages" and conversion.way == "envelope":
        return
    assert call.fault is None
    if conversion.upstream == "openai_chat":
        *system, last = call.sent["messages"]
        assert {message["role"] for message in system} == {"system"}
        texts = "".join(message["content"] for message in system)
    elif conversion.upstream == "gemini_generate_content":
        (last,) = call.sent["contents"]
        texts = "".join(part["text"] for part in call.sent["systemInstruction"]["parts"])
    else:
        (last,) = call.sent["messages"]
        texts = "".join(block["text"] for block in call.sent["system"])
    assert re.findall("one|two|three", texts) == ["one", "two", "three"]
    assert last["role"] == "user"


GUARDRAIL = {"guardrailConfig": {"guardrailIdentifier": "g1", "guardrailVersion": "1"}}
GUARDED = {
    "system": [{"text": "plain"}, {"guardContent": {"text": {"text": "rules"}}}],
    "messages": [{"role": "user", "content": [{"text": "context"}, {"guardContent": {"text": {"text": "question"}}}]}],
}
TO_INVOKE = CONVERSIONS["bedrock_converse__bedrock_model_invoke"]


@pytest.mark.parametrize("stream", [False, True])
def test_text_for_the_guardrail_is_tagged_on_invoke_model(stream):
    call = TO_INVOKE.call(GUARDED | GUARDRAIL, stream=stream)
    suffix = call.sent["amazon-bedrock-guardrailConfig"]["tagSuffix"]
    assert re.fullmatch("[0-9a-z]{1,20}", suffix)
    tag = f"amazon-bedrock-guardrails-guardContent_{suffix}"
    assert [block["text"] for block in call.sent["system"]] == ["plain", f"<{tag}>rules</{tag}>"]
    assert [block["text"] for block in call.sent["messages"][0]["content"]] == ["context", f"<{tag}>question</{tag}>"]
    assert call.upstream_request.headers["x-amzn-bedrock-guardrailidentifier"] == "g1"
    assert call.dropped == []
    assert call.fault is None
    other = TO_INVOKE.call(GUARDED | GUARDRAIL).sent["amazon-bedrock-guardrailConfig"]["tagSuffix"]
    assert other != suffix


def test_text_is_tagged_only_for_a_guardrail():
    plain = TO_INVOKE.call(GUARDED)
    assert "guardrail" not in json.dumps(plain.sent)
    unmarked = TO_INVOKE.call({"messages": [{"role": "user", "content": [{"text": "Hi"}]}]} | GUARDRAIL)
    assert "amazon-bedrock-guardrailConfig" not in unmarked.sent


def test_an_image_for_the_guardrail_is_reported_on_invoke_model():
    image = {"guardContent": {"image": {"format": "png", "source": {"bytes": PNG}}}}
    body = {"messages": [{"role": "user", "content": [{"text": "Hi"}, image]}]}
    assert TO_INVOKE.call(body | GUARDRAIL).dropped == ["/messages/0/content/1/guardContent/image"]
    assert TO_INVOKE.call(body).dropped == []


@of("anthropic_messages", "invoke")
def test_a_thread_is_refused_with_the_code_that_sdks_wait_for(conversion):
    """Check that a request that continues a thread is refused with an error code that Anthropic's SDK handles.

    At this error code, the SDK sends the whole conversation instead of the thread (`lib/threads`).
    """
    headers = {"anthropic-beta": "threads-2026-08-01"}
    with pytest.raises(Refused) as refused:
        conversion.call(PLAIN | {"thread": {"type": "create"}}, headers=headers)
    status, _, body = anthropic_messages.error(refused.value.problem)
    error = json.loads(body)["error"]
    assert (status, error["details"]) == (400, {"error_code": "thread_unsupported_request"})


def test_other_errors_have_no_details():
    conversion = CONVERSIONS["anthropic_messages__bedrock_converse"]
    with pytest.raises(Refused) as refused:
        conversion.call(PLAIN | {"mcp_servers": [{"type": "url"}]})
    assert "details" not in json.loads(anthropic_messages.error(refused.value.problem)[2])["error"]
