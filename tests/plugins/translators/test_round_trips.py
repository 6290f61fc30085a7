"""Tests of a conversation of two turns, on every conversion.

The strict simulated provider must accept the second turn. All that the client sends back must arrive unchanged: text,
parallel tool calls with their results, signed and redacted thinking, images, documents, cache marks, citations.
"""

import copy
import json

from gateway.testkit import scenarios
from gateway.testkit.render import anthropic as render_anthropic
from gateway.testkit.render import converse as render_converse
from gateway.testkit.scenarios import Canned, Scenario, Tokens, Tool
from tests.defects.conversions import both_ways
from tests.helpers.samples import CITY, PDF, PNG
from tests.helpers.upstream_view import system_of, tools_of, turns_of
from tests.helpers.wires import CLAUDES, framed, line, wires

CITIES = ("Zürich", "Tōkyō")
CALLS = tuple(Tool("look", {"city": city}) for city in CITIES)
TOLD = Canned(text=("Let me ", "look."), tools=CALLS, tokens=Tokens(input=5, output=9))
SIGNED = Canned(thinking="Two cities, so two calls.", text=("Let me look.",), tools=CALLS)
HIDDEN = Canned(redacted="ZW5jcnlwdGVkIHRob3VnaHQ=", text=("Let me look.",), tools=CALLS)
SIGNATURE = f"{scenarios.SIGNATURE}{len(SIGNED.thinking)}"
RESULTS = ("Rain, 9 °C", "Sun, 21 °C")
MARKED = ("openai_chat", *CLAUDES)
CITERS = CLAUDES


class Talk:
    """A conversation of two turns. `wishes` are fields that both requests have."""

    def __init__(self, opened, *, stream, **wishes):
        self.opened = opened
        self.say = opened.wire.say
        self.stream = stream
        self.wishes = wishes
        self.history = []

    async def ask(self, *messages):
        """Add the client's message to the conversation. Return the reply, which is added too."""
        self.history += messages
        body = await self.opened.reply_body(self.say.body(self.history, **self.wishes), stream=self.stream)
        self.history += copy.deepcopy(self.say.as_history(body))
        return self.say.read_reply(body)

    async def answer(self, calls):
        """Send the results of the tool calls, in reverse order. Return the reply."""
        pairs = list(zip(calls, RESULTS, strict=True))
        results = [self.say.answered(tool_id, self.say.text(text)) for (tool_id, _, _), text in reversed(pairs)]
        return await self.ask(*self.say.joined([message for result in results for message in result]))

    @property
    def turns(self):
        """The turns of the conversation in the provider's last request."""
        return list(turns_of(self.opened.wire.upstream, self.opened.sent))


def parts(turns, kind):
    return [part for _, content in turns for part in content if part[0] == kind]


def user(say):
    return say.user(say.text("How is the weather?"))


@both_ways
@wires()
async def test_text_and_parallel_calls_come_back_with_their_results(wire, stream, tmp_path):
    async with line(wire, tmp_path) as opened:
        talk = Talk(opened, stream=stream, tools=[wire.say.tool(schema=CITY)])
        opened.simulated.script(Scenario(TOLD))
        first = await talk.ask(*user(wire.say))
        assert (first.text, [given["city"] for _, _, given in first.calls]) == ("Let me look.", list(CITIES))
        second = await talk.answer(first.calls)
        assert any(result in second.text for result in RESULTS)  # the simulated model repeats what it was told last
        if wire.upstream == "openai_responses":
            return
        assert parts(talk.turns, "text") == [("text", "How is the weather?"), ("text", "Let me look.")]
        calls, results = parts(talk.turns, "call"), parts(talk.turns, "result")
        assert [call[3] for call in calls] == [{"city": city} for city in CITIES]
        answers = {made: inner[0][1] for _, made, inner in results}
        assert [answers[call[1]] for call in calls] == list(RESULTS)


@both_ways
@wires(providers=CLAUDES)
async def test_signed_thinking_comes_back_as_the_model_gave_it(wire, stream, tmp_path):
    async with line(wire, tmp_path) as opened:
        wishes = {**wire.say.thinking(1024), "limit": 4000, "tools": [wire.say.tool(schema=CITY)]}
        talk = Talk(opened, stream=stream, **wishes)
        opened.simulated.script(Scenario(SIGNED))
        first = await talk.ask(*user(wire.say))
        assert first.thinking == SIGNED.thinking
        await talk.answer(first.calls)
        assert talk.turns[1][1][0] == ("thinking", SIGNED.thinking, SIGNATURE)
        assert (await opened.gw.calls(2))[1]["dropped"] == []


@both_ways
@wires(providers=CLAUDES)
async def test_redacted_thinking_comes_back_as_the_model_gave_it(wire, stream, tmp_path):
    async with line(wire, tmp_path) as opened:
        wishes = {**wire.say.thinking(1024), "limit": 4000, "tools": [wire.say.tool(schema=CITY)]}
        talk = Talk(opened, stream=stream, **wishes)
        opened.simulated.script(Scenario(HIDDEN))
        first = await talk.ask(*user(wire.say))
        await talk.answer(first.calls)
        assert talk.turns[1][1][0] == ("redacted", HIDDEN.redacted)


@both_ways
@wires(providers=("openai_responses",))
async def test_encrypted_reasoning_comes_back_as_the_model_gave_it(wire, stream, tmp_path):
    async with line(wire, tmp_path) as opened:
        wishes = {**wire.say.thinking(1024), "tools": [wire.say.tool(schema=CITY)]}
        talk = Talk(opened, stream=stream, **wishes)
        opened.simulated.script(Scenario(SIGNED))
        first = await talk.ask(*user(wire.say))
        await talk.answer(first.calls)
        (item,) = [item for item in opened.sent["input"] if item.get("type") == "reasoning"]
        assert item["encrypted_content"] == first.signatures[0]


@both_ways
@wires()
async def test_images_and_documents_arrive_in_both_turns(wire, stream, tmp_path):
    say = wire.say
    async with line(wire, tmp_path) as opened:
        talk = Talk(opened, stream=stream)
        await talk.ask(*say.user(say.text("Compare"), say.image(), say.document(name="Paper")))
        await talk.ask(*say.user(say.text("And the second?"), say.image(), say.document(name="Other")))
        sent = json.dumps(opened.sent)
        assert (sent.count(PNG), sent.count(PDF)) == (2, 2)
        assert all(record["dropped"] == [] for record in await opened.gw.calls(2))


@both_ways
@wires(clients=MARKED, providers=CLAUDES)
async def test_cache_marks_stay_where_they_are_in_both_turns(wire, stream, tmp_path):
    say = wire.say
    converse = wire.client == "bedrock_converse"
    tools = [say.tool(schema=CITY, ttl="1h"), *([say.point("1h")] if converse else [])]
    hello = say.user(say.text("How is the weather?", ""), *([say.point()] if converse else []))
    async with line(wire, tmp_path) as opened:
        talk = Talk(opened, stream=stream, tools=tools)
        for messages in (hello, say.user(say.text("And now?"))):
            await talk.ask(*messages)
            assert tools_of(opened.sent)["look"].mark == "1h"
            assert talk.turns[0][1] == [("text", "How is the weather?"), ("mark", "")]
        assert all(record["dropped"] == [] for record in await opened.gw.calls(2))


@both_ways
@wires(clients=MARKED, providers=CLAUDES)
async def test_a_cache_mark_of_the_system_prompt_arrives_in_both_turns(wire, stream, tmp_path):
    say = wire.say
    wishes, before = {}, []
    if wire.client == "openai_chat":
        before = say.system("Be brief.", "")
    elif wire.client == "bedrock_converse":
        wishes = {"system": [{"text": "Be brief."}, say.point()]}
    else:
        wishes = {"system": [say.text("Be brief.", "")]}
    async with line(wire, tmp_path) as opened:
        talk = Talk(opened, stream=stream, **wishes)
        for messages in ([*before, *user(say)], say.user(say.text("And now?"))):
            await talk.ask(*messages)
            assert list(system_of(opened.sent)) == [("text", "Be brief."), ("mark", "")]


CITATION = {
    "type": "char_location", "cited_text": "The grass is green.", "document_index": 0, "document_title": "Lawns",
    "start_char_index": 0, "end_char_index": 19,
}  # fmt: skip
SOURCE = {
    "title": "Lawns", "sourceContent": [{"text": "The grass is green."}],
    "location": {"documentChar": {"documentIndex": 0, "start": 0, "end": 19}},
}  # fmt: skip
GREEN = Canned(text=("Green.",), tokens=Tokens(input=9, output=2))


def cited(wire, *, stream):
    """Return a reply that cites a document, in the provider's dialect."""
    if wire.upstream == "bedrock_converse":
        body, events = render_converse.whole(GREEN, 9), render_converse.events(GREEN, 9)
        block = {"content": [{"text": "Green."}], "citations": [SOURCE]}
        body["output"]["message"]["content"] = [{"citationsContent": block}]
        at = next(index for index, (kind, _) in enumerate(events) if kind == "contentBlockStop")
        events.insert(at, ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"citation": SOURCE}}))
    else:
        body = render_anthropic.message(GREEN, "m", 9)
        body["content"][0]["citations"] = [CITATION]
        events = [(data["type"], data) for data in render_anthropic.events(GREEN, "m", 9)]
        at = next(index for index, (kind, _) in enumerate(events) if kind == "content_block_stop")
        delta = {"type": "citations_delta", "citation": CITATION}
        events.insert(at, ("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}))
    return scenarios.raw(*framed(wire.provider, events)) if stream else scenarios.raw(json.dumps(body).encode())


def sources(body):
    """Return the citations in the assistant's turns of a request."""
    (block,) = body["messages"][1]["content"]
    return block.get("citations") or block["citationsContent"]["citations"]


@both_ways
@wires(clients=CITERS, providers=CITERS)
async def test_citations_come_back_in_the_next_turn(wire, stream, tmp_path):
    async with line(wire, tmp_path) as opened:
        talk = Talk(opened, stream=stream)
        opened.simulated.script(cited(wire, stream=stream))
        assert (await talk.ask(*user(wire.say))).text == "Green."
        await talk.ask(*wire.say.user(wire.say.text("Who says so?")))
        (source,) = sources(opened.sent)
        assert source == SOURCE if wire.upstream == "bedrock_converse" else CITATION.items() <= source.items()


@both_ways
@wires(clients=("openai_chat", "openai_responses"), providers=CITERS)
async def test_document_citations_are_dropped_where_inexpressible(wire, stream, tmp_path):
    """Check that citations of documents are reported as dropped if the client's dialect has no such citations."""
    async with line(wire, tmp_path) as opened:
        talk = Talk(opened, stream=stream)
        opened.simulated.script(cited(wire, stream=stream))
        assert (await talk.ask(*user(wire.say))).text == "Green."
        await talk.ask(*wire.say.user(wire.say.text("Who says so?")))
        assert (await opened.gw.calls(2))[0]["dropped"] == ["/reply/citation"]
