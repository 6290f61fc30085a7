"""Tests that text between thinking tags at the start of a reply becomes thinking, and is sent back to the provider
unchanged.

The stream may be split anywhere, even inside a tag.
"""

import itertools

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.capabilities import capabilities
from gateway_plugins.shared.inline_reasoning import InlineReasoning, original_text
from gateway_plugins.shared.reasoning import Maker, Reasoning
from gateway_plugins.shared.reply_events import Stop
from tests.helpers.fold import fold
from tests.helpers.second_turn import CLIENTS, chat_events, chat_reply, second_turn
from tests.helpers.translation import Translator, client_events
from tests.plugins.dialects.test_reply_readers import RecordingWriter

MAKER = Maker("fam", "p", inline=True)
TAGS = ("think", "thinking", "reasoning")
END = Stop("end_turn", "stop")


def written(pieces, *, after=(), stop=END):
    """Separate thinking from text in `pieces`, which are the pieces of the provider's text.

    Return three texts: the thinking and the text that the client gets, and the text that the provider gets back in the
    next turn. `after` are calls of the writer's methods after the last piece, such as ("block_end",).
    """
    writer = RecordingWriter()
    inline = InlineReasoning(writer, TAGS, MAKER)
    for piece in pieces:
        inline.text(piece)
    for method, *values in after:
        getattr(inline, method)(*values)
    inline.finish(stop)
    back, thought = "", ""
    for method, *values in writer.calls:
        if method == "thinking":
            thought = values[0]
        elif method == "signature":
            back += original_text(Reasoning("", thought, values[0]), MAKER) or ""
        elif method == "text":
            back += values[0]
    texts = ["".join(values[0] for method, *values in writer.calls if method == name) for name in ("thinking", "text")]
    return *texts, back


# text: (thinking, text) that the client gets
TEXTS = {
    "<think>plan</think>Answer": ("plan", "Answer"),
    "<reasoning>plan</reasoning>Answer": ("plan", "Answer"),
    "<thinking>plan</thinking>\n\nAnswer": ("plan", "Answer"),
    "\n <think>\nplan\n\n</think>\n\nAnswer ": ("plan", "Answer "),
    "<think>a</think> <think>b</think> c": ("ab", "c"),
    "<think>a <b> </thin c</think>d": ("a <b> </thin c", "d"),
    "<think>a</reasoning>b</think>c": ("a</reasoning>b", "c"),
    "<think>a<think>b</think>c</think>d": ("a<think>b", "c</think>d"),
    "<think></think>Answer": ("", "Answer"),
    "<think>\n\n</think>\n\nAnswer": ("", "Answer"),
    "<thinker>plan</thinker>": ("", "<thinker>plan</thinker>"),
    "< think>plan": ("", "< think>plan"),
    "<think": ("", "<think"),
    "<": ("", "<"),
    " \n": ("", " \n"),
    "": ("", ""),
    "Use <think>tags</think> so": ("", "Use <think>tags</think> so"),
    "</think>Answer": ("", "</think>Answer"),
    "<think>plan</think>": ("plan", ""),
    "<think>plan</think>\n": ("plan", ""),
    "<think>plan</think>Use <think>tags</think>": ("plan", "Use <think>tags</think>"),
    "<THINK>plan</THINK>": ("", "<THINK>plan</THINK>"),
    "<think>" + " " * 5000 + "x</think>" + "\n" * 5000 + "y": ("x", "y"),
}


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:40])
def test_tags_at_the_start_are_thinking(text):
    thinking, answer, back = written([text])
    assert (thinking, answer) == TEXTS[text]
    if thinking:
        assert back == text


@pytest.mark.parametrize("text", [text for text in TEXTS if len(text) < 100])
def test_the_pieces_of_a_stream_may_be_cut_anywhere(text):
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            assert written([text[:first], text[first:second], text[second:]]) == written([text])
    assert written(text) == written([text])


@given(st.text("<>/think \nab", max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_no_visible_character_is_lost_wherever_a_text_is_cut(rest, cuts):
    text = "<think>" + rest
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    thinking, answer, back = written([text[a:b] for a, b in itertools.pairwise(places)])
    assert (thinking, answer, back) == written([text])
    if thinking and answer != thinking:
        assert back == text


def test_a_thought_that_is_cut_off_stays_a_thought():
    assert written(["<think>plan"], stop=Stop("max_tokens", "length")) == ("plan", "", "<think>plan")


def test_a_reply_that_is_only_an_open_thought_is_an_answer_too():
    assert written([" <think> It is 30 °C."])[:2] == ("It is 30 °C.", "It is 30 °C.")


@pytest.mark.parametrize(
    "after", [("tool", "a", "f"), ("thinking", "x"), ("redacted", "x"), ("refusal", "No."), ("block_end",)]
)
def test_other_content_ends_the_thought(after):
    thinking, text, _ = written(["<think>plan"], after=[after], stop=Stop("tool_use"))
    assert (thinking.startswith("plan"), text) == (True, "")


# model: whether it may think between tags
MODELS = {
    "openai.gpt-oss-120b-1:0": True, "gpt-oss:20b": True, "deepseek.r1-v1:0": True, "deepseek-r1": True,
    "qwen.qwen3-32b-v1:0": True, "Qwen/qwen3-8b": True, "MiniMax-M2": True, "minimax.minimax-m2": True,
    "moonshot.kimi-k2-thinking": True, "glm-4.5": True, "magistral-small-latest": True, "us.amazon.nova-pro-v1:0": True,
    "gemini-2.5-pro": True, "us.anthropic.claude-haiku-4-5-20251001-v1:0": False, "claude-sonnet-4-6": False,
    "anthropic/claude-sonnet-4.6": False, "gpt-5.4": False, "gpt-4o": False, "us.meta.llama4-maverick-17b-instruct-v1:0": False,
    "some-model": False,
}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_models_that_think_between_tags_are_known(model):
    assert bool(capabilities(model).inline_reasoning) == MODELS[model]


@pytest.mark.parametrize("client", [client for client in CLIENTS if client != "openai_chat"])
@pytest.mark.parametrize("model", ["claude-sonnet-4-6", "gpt-5.4"])
def test_the_text_of_other_models_stays_as_it_came(client, model):
    text = "<think>is a tag</think> of HTML"
    reply = chat_reply({"role": "assistant", "content": text}, "stop")
    body, dropped = second_turn(client, "openai_chat", model, reply)
    assert (body["messages"][1], dropped) == ({"role": "assistant", "content": text}, [])


@pytest.mark.parametrize("client", ["anthropic_messages", "openai_chat", "openai_responses"])
def test_thinking_of_nova_on_converse_goes_back_as_text(client):
    text = "<thinking>\nI call f.</thinking>\n"
    blocks = [{"text": text}, {"toolUse": {"toolUseId": "c1", "name": "f", "input": {}}}]
    reply = {"output": {"message": {"role": "assistant", "content": blocks}}, "stopReason": "tool_use"}
    body, dropped = second_turn(client, "bedrock_converse", "us.amazon.nova-pro-v1:0", reply)
    assert body["messages"][1]["content"] == blocks
    assert dropped == []


def test_a_messages_client_gets_a_block_of_thinking():
    """Check that a Messages client gets a block of thinking from gpt-oss on Bedrock.

    This model writes its reasoning into its text (CherryHQ/cherry-studio#10225).
    """
    base = {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "x"}]}
    client = Translator("anthropic_messages", "openai_chat", base, "openai.gpt-oss-120b-1:0")
    text = "<reasoning>let me think</reasoning>Answer"
    whole = orjson.loads(client.unjudged({}).whole(orjson.dumps(chat_reply({"content": text}, "stop"))))
    events = chat_events(*({"content": each} for each in text), finish="stop")
    streamed = fold("anthropic_messages", client_events(client.unjudged({}, stream=True), events))
    for message in (whole, streamed):
        kinds = [(block["type"], block.get("thinking", block.get("text"))) for block in message["content"]]
        assert kinds == [("thinking", "let me think"), ("text", "Answer")]


@pytest.mark.parametrize(
    ("after", "answer"),
    [
        ([("block_end",)], "plan"),
        ([("block_end",), ("text", "Answer"), ("block_end",)], "Answer"),
        ([("block_end",), ("text", "<think>more"), ("block_end",)], "more"),
        ([("block_end",), ("tool", "t1", "f"), ("block_end",)], ""),
    ],
)
def test_an_open_thought_is_the_answer_only_if_nothing_follows(after, answer):
    """Check that thinking without a closing tag is also sent as the answer if it is the end of a Converse reply.

    It is not sent as the answer if an answer or a tool call follows in another block.
    """
    thinking, text, _ = written(["<think>plan"], after=after)
    assert (thinking, text) == ("planmore" if answer == "more" else "plan", answer)
