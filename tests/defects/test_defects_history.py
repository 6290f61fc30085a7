"""Tests of defects 44 to 46, 48 to 52, 59, 60 and 63 of other gateways, about conversations of several turns.

Each defect is tested on every conversion. The subjects are cache marks, thinking that is sent back, requests for
thinking, sampling, service tiers, and the end of a conversation. The number of a defect is in the names of its tests:
`defect_NN`.
"""

import base64
from itertools import pairwise

import pytest

from gateway.testkit.scenarios import Canned, Tool
from tests.defects.conversions import CLAUDES, GPT_OSS, OPUS, both_ways, conversions
from tests.helpers.samples import CITY
from tests.helpers.upstream_view import system_of

TEXT = base64.b64encode(b"hello").decode()
THOUGHT = Canned(thinking="Six times seven.", text=("Let me look.",), tools=(Tool("look", {"city": "Ulm"}),))
HIDDEN = Canned(redacted="ZW5jcnlwdGVkIHRob3VnaHQ=", text=("Let me look.",), tools=(Tool("look", {"city": "Ulm"}),))
SIGNED = ("thinking", "Six times seven.", "sig-sim-16")
ADAPTIVE = {"anthropic_messages": "claude-opus-5", "bedrock_converse": OPUS}
MARKS = ("tools", "system", "text", "call", "result")


def marked(conversion, places, ttl=""):
    """Return the messages of a conversation, and other fields of the request. Those parts that `places` names have
    cache marks.
    """
    say = conversion.say
    ttls = {place: ttl if place in places else None for place in MARKS}
    wishes = {"tools": [say.tool(schema=CITY, ttl=ttls["tools"])]}
    turns = [say.user(say.text("Hi", ttls["text"])), say.called(("a", "look", {"city": "Ulm"}))]
    turns.append(say.answered("a", say.text("1"), ttl=ttls["result"]))
    if conversion.client == "openai_chat":
        turns.insert(0, say.system("Be brief.", ttls["system"]))
        if "call" in places:
            turns[2][0]["tool_calls"][0]["cache_control"] = turns[0][0].get("cache_control") or _control(ttl)
    elif conversion.client == "anthropic_messages":
        block = {"type": "text", "text": "Be brief."}
        wishes["system"] = [block if ttls["system"] is None else {**block, "cache_control": _control(ttl)}]
        if "call" in places:
            turns[1][0]["content"][0]["cache_control"] = _control(ttl)
    else:
        wishes["system"] = [{"text": "Be brief."}, *([say.point(ttl)] if "system" in places else [])]
        wishes["tools"] += [say.point(ttl)] if "tools" in places else []
        turns[0][0]["content"] += [say.point(ttl)] if "text" in places else []
        turns[1][0]["content"] += [say.point(ttl)] if "call" in places else []
    return [message for turn in turns for message in turn], wishes


def _control(ttl):
    return {"type": "ephemeral", **({"ttl": ttl} if ttl else {})}


def marks(sent):
    """Return the cache marks in the request that the provider got: a dict whose keys are the marks' places, such as
    "system", and whose values are the marks' lifetimes.
    """
    places = {} if sent.tools["look"].mark is None else {"tools": sent.tools["look"].mark}
    system = [ttl for kind, ttl in system_of(sent.body) if kind == "mark"]
    places |= {"system": system[0]} if system else {}
    for _, parts in sent.turns:
        for before, part in pairwise(parts):
            if part[0] == "mark":
                places[before[0]] = part[1]
    return places


@conversions(clients=("openai_chat", *CLAUDES), upstreams=CLAUDES)
@pytest.mark.parametrize("place", MARKS)
def test_defect_44_a_cache_mark_stays_where_the_client_put_it(conversion, place):
    conversation, wishes = marked(conversion, [place])
    assert marks(conversion.sent(conversation, **wishes)) == {place: ""}


@conversions(clients=("openai_chat", *CLAUDES), upstreams=CLAUDES)
@pytest.mark.parametrize("place", MARKS)
def test_defect_45_a_cache_marks_lifetime_is_carried(conversion, place):
    conversation, wishes = marked(conversion, [place], "1h")
    assert marks(conversion.sent(conversation, **wishes)) == {place: "1h"}


@conversions(clients=("anthropic_messages", "bedrock_converse"), upstreams=("openai_chat",))
@pytest.mark.parametrize("place", MARKS)
def test_defect_44_a_cache_mark_that_chat_has_no_word_for_is_dropped_aloud(conversion, place):
    conversation, wishes = marked(conversion, [place])
    (dropped,) = conversion.sent(conversation, **wishes).dropped
    assert dropped.endswith(("cache_control", "cachePoint"))


@conversions(clients=("openai_chat", "anthropic_messages"), upstreams=("bedrock_converse",))
def test_defect_46_a_cache_mark_on_a_text_document_stands_before_it(conversion):
    say = conversion.say
    document = {**say.document(TEXT, "a.txt", "text/plain"), "cache_control": {"type": "ephemeral"}}
    sent = conversion.sent(say.user(say.text("Read"), document))
    assert [part[0] for part in sent.turns[0][1]] == ["text", "mark", "document"]
    pdf = {**say.document(), "cache_control": {"type": "ephemeral"}}
    assert [part[0] for part in conversion.sent(say.user(say.text("Read"), pdf)).turns[0][1]] == [
        "text",
        "document",
        "mark",
    ]


def second_turn(conversion, canned, *, stream, model=None):
    """Return the request that the provider gets in the second turn.

    In this turn, the client sends back the first reply, which has a tool call, and the result of the call.
    """
    say = conversion.say
    wishes = {"tools": [say.tool(schema=CITY)], **say.thinking(1024), "limit": 4000}
    reply = conversion.reply_body(canned, stream=stream, **wishes)
    ((tool_id, _, _),) = say.read_reply(reply).calls
    conversation = [*say.user(say.text("Hi")), *say.as_history(reply), *say.answered(tool_id, say.text("Sun."))]
    return conversion.sent(conversation, model, **wishes)


@both_ways
@conversions(upstreams=CLAUDES)
def test_defect_48_and_60_signed_thinking_comes_before_the_call(conversion, stream):
    """Check that signed thinking is sent back to the provider before the tool call."""
    sent = second_turn(conversion, THOUGHT, stream=stream)
    assert sent.turns[1][1][0] == SIGNED
    assert [part[0] for part in sent.turns[1][1]] == ["thinking", "text", "call"]
    assert sent.dropped == []


@both_ways
@conversions(upstreams=CLAUDES)
def test_defect_49_and_60_redacted_thinking_comes_back_as_it_was(conversion, stream):
    sent = second_turn(conversion, HIDDEN, stream=stream)
    assert sent.turns[1][1][0] == ("redacted", "ZW5jcnlwdGVkIHRob3VnaHQ=")
    assert sent.dropped == []


@conversions(upstreams=CLAUDES)
def test_defect_48_thinking_of_another_family_is_dropped_aloud(conversion):
    say = conversion.say
    reply = conversion.reply_body(THOUGHT, stream=False, tools=[say.tool(schema=CITY)])
    ((tool_id, _, _),) = say.read_reply(reply).calls
    conversation = [*say.user(say.text("Hi")), *say.as_history(reply), *say.answered(tool_id, say.text("Sun."))]
    sent = conversion.sent(conversation, caps={"family": "other"}, tools=[say.tool(schema=CITY)])
    assert [part[0] for part in sent.turns[1][1]] == ["text", "call"]
    assert len(sent.dropped) == 1


@conversions(upstreams=("bedrock_converse",))
def test_defect_50_an_effort_goes_to_each_family_in_its_own_field(conversion):
    say = conversion.say
    fields = "additionalModelRequestFields"
    request = {"bedrock_converse": {fields: {"reasoning_effort": "low"}}}.get(conversion.client, say.effort("low"))
    hello = say.user(say.text("Hi"))
    assert conversion.sent(hello, GPT_OSS, **request).body[fields] == {"reasoning_effort": "low"}
    assert conversion.sent(hello, OPUS, **request).body[fields]["output_config"] == {"effort": "low"}
    none = conversion.sent(hello, "us.amazon.nova-pro-v1:0", **request)
    assert (fields in none.body, len(none.dropped) > 0) == (False, True)


@conversions(upstreams=("openai_chat",))
def test_defect_50_an_effort_is_openais_own_behind_chat(conversion):
    request = {"additionalModelRequestFields": {"reasoning_effort": "low"}}
    sent = conversion.sent(
        conversion.say.user(conversion.say.text("Hi")),
        "gpt-5",
        **(request if conversion.client == "bedrock_converse" else conversion.say.effort("low")),
    )
    assert sent.body["reasoning_effort"] == "low"
    assert "thinking" not in sent.body


@conversions(upstreams=CLAUDES)
def test_defect_51_the_text_of_thinking_is_requested(conversion):
    """Check that a request with thinking asks the provider for the text of the thinking, because some models leave this
    text out by default.
    """
    sent = conversion.sent(
        conversion.say.user(conversion.say.text("Hi")), ADAPTIVE[conversion.upstream], **conversion.say.effort("low")
    )
    fields = sent.body.get("additionalModelRequestFields", sent.body)
    assert fields["thinking"] == {"type": "adaptive", "display": "summarized"}


@conversions(clients=("openai_chat", *CLAUDES), upstreams=CLAUDES)
def test_defect_51_the_clients_own_display_is_forwarded(conversion):
    thinking = {"thinking": {"type": "adaptive", "display": "omitted"}}
    request = {"additionalModelRequestFields": thinking} if conversion.client == "bedrock_converse" else thinking
    sent = conversion.sent(conversion.say.user(conversion.say.text("Hi")), ADAPTIVE[conversion.upstream], **request)
    assert sent.body.get("additionalModelRequestFields", sent.body)["thinking"]["display"] == "omitted"


@conversions(upstreams=CLAUDES)
def test_defect_52_of_temperature_and_top_p_the_temperature_stays(conversion):
    sent = conversion.sent(conversion.say.user(conversion.say.text("Hi")), **conversion.say.sampled(0.5, 0.9))
    assert sent.body.get("inferenceConfig", sent.body)["temperature"] == 0.5
    assert "0.9" not in str(sent.body)
    assert [at.rpartition("/")[2].lower().replace("_", "") for at in sent.dropped] == ["topp"]


@conversions(clients=("openai_chat", "openai_responses"))
def test_defect_59_a_default_tier_is_left_out(conversion):
    """Check that a default service tier is not sent, and that an unknown one is refused."""
    hello = conversion.say.user(conversion.say.text("Hi"))
    assert "tier" not in str(conversion.sent(hello, service_tier="auto").body).lower()
    assert conversion.refusal(hello, service_tier="scale").param == "service_tier"


@conversions(clients=("anthropic_messages",))
def test_defect_59_anthropics_tiers_ask_for_nothing_elsewhere(conversion):
    hello = conversion.say.user(conversion.say.text("Hi"))
    for tier in ("auto", "standard_only"):
        assert "tier" not in str(conversion.sent(hello, service_tier=tier).body).lower()


@conversions(clients=("bedrock_converse",))
def test_defect_59_converses_default_tier_is_left_out(conversion):
    """Check that Converse's default service tier is not sent, and that a tier that the provider lacks is reported as
    dropped.
    """
    hello = conversion.say.user(conversion.say.text("Hi"))
    assert conversion.sent(hello, serviceTier={"type": "default"}).dropped == []
    sent = conversion.sent(hello, serviceTier={"type": "reserved"})
    assert "tier" not in str(sent.body).lower()
    assert sent.dropped == ["/serviceTier"]


@conversions(upstreams=CLAUDES)
def test_defect_63_a_trailing_assistant_turn_gets_a_user_turn(conversion):
    """Check that a user turn is added after a last assistant turn if the model cannot continue the turn."""
    say = conversion.say
    sent = conversion.sent([*say.user(say.text("Hi")), *say.assistant("The answer is ")], ADAPTIVE[conversion.upstream])
    assert sent.turns[-1] == ("user", [("text", "Continue.")])


@conversions(clients=CLAUDES, upstreams=CLAUDES)
def test_defect_63_a_trailing_assistant_turn_is_continued(conversion):
    """Check that a last assistant turn is sent unchanged if the model can continue it."""
    say = conversion.say
    sent = conversion.sent([*say.user(say.text("Hi")), *say.assistant("The answer is ")], caps={"prefill": True})
    assert sent.turns[-1] == ("assistant", [("text", "The answer is")])
