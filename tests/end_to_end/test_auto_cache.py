"""Tests of the cache marks that the gateway places in requests (`auto_cache`), with several clients and providers.

The tests also compare the cost of an agent's session with and without these marks. The simulated providers have a
prompt cache (`gateway/testkit/prompt_cache.py`), and the costs are computed from the gateway's price list.
"""

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from gateway.testkit import scenarios
from gateway.testkit.anthropic import AnthropicSim
from gateway.testkit.bedrock import BedrockSim
from gateway.testkit.prompt_cache import PromptCache, blocks
from gateway.testkit.scenarios import Tool
from tests.helpers.client_of_gemini import Gemini
from tests.helpers.clients import Chat, Responses
from tests.helpers.clients_of_turns import Converse, Invoke, Messages
from tests.helpers.gateway import HAIKU, KEY, NOVA, SONNET, bedrock, gate

CLAUDE = "claude-sonnet-4-5-20250929"
TURNS = 20
PROSE = "Read the file before you change it, keep the change small, and run the tests of the module afterwards. "
SYSTEM = PROSE * 160
"""A system prompt of about 16 kB. Real agents have system prompts of this length."""
NAMES = ("read_file", "write_file", "list_files", "search", "run", "ask")
CALLS = [Tool(NAMES[turn % 5], {"path": f"src/module_{turn}.py", "line": turn * 7}) for turn in range(TURNS)]
OUTPUT = "    return [each for each in values if each.is_open and each.owner == owner]  # line {}\n"


@dataclass(frozen=True)
class Road:
    """The settings of a call: the client, the provider's compatibility flag, the provider's setting `auto_cache`, and
    the model.
    """

    client: type
    flag: str
    setting: bool | str = True
    model: str = SONNET

    def __str__(self):
        return f"{self.client.flag} to {self.flag} of {self.model.split('.')[-1]}"


ROADS = [
    Road(Chat, "bedrock_converse"),
    Road(Chat, "bedrock_model_invoke"),
    Road(Chat, "anthropic_messages", model=CLAUDE),
    Road(Responses, "bedrock_converse"),
    Road(Responses, "bedrock_model_invoke"),
    Road(Responses, "anthropic_messages", model=CLAUDE),
    Road(Gemini, "bedrock_converse"),
    Road(Gemini, "bedrock_model_invoke"),
    Road(Gemini, "anthropic_messages", model=CLAUDE),
    Road(Messages, "bedrock_converse", "all"),
    Road(Messages, "bedrock_model_invoke", "all"),
    Road(Messages, "anthropic_messages", "all", CLAUDE),
    Road(Converse, "bedrock_converse", "all"),
    Road(Converse, "anthropic_messages", "all", CLAUDE),
    Road(Converse, "bedrock_model_invoke", "all"),
    Road(Invoke, "bedrock_model_invoke", "all"),
    Road(Invoke, "anthropic_messages", "all", CLAUDE),
]
MEASURED = [ROADS[0], ROADS[1], ROADS[5]]
"""The settings of calls with which a session is run for `TURNS` turns.

`deploy/README.md` states how much `auto_cache` saves in such a session.
"""
every_road = pytest.mark.parametrize("road", ROADS, ids=str)
CANNOT_ASK = [road for road in ROADS if road.setting is True]
CAN_ASK = [road for road in ROADS if road.setting == "all"]


def provider(url, road, **more):
    own = {"models": [road.model], "capabilities": {"*": {"thinks_by_default": False}}}
    if road.flag == "anthropic_messages":
        own |= {"cost_basis": "anthropic"}
    return bedrock(url, flags=[road.flag], **{**own, **more})


@asynccontextmanager
async def started(folder, road, **more):
    """Yield a gateway with the settings `road`, and its simulated provider, which has a prompt cache."""
    folder.mkdir(exist_ok=True)
    simulator = (AnthropicSim if road.flag == "anthropic_messages" else BedrockSim)({KEY})
    async with simulator as upstream:
        upstream.prompt_cache = PromptCache()
        async with gate(folder, {"p": provider(upstream.url, road, **more)}) as gateway:
            yield gateway, upstream


class Agent:
    """A client that sends its whole conversation in every call and sets no cache marks."""

    def __init__(self, gateway, upstream, road):
        self.gateway, self.upstream, self.road = gateway, upstream, road
        self.client = road.client()
        self.tools = [self.client.tool(name, description=f"{name}: {PROSE * 4}") for name in NAMES]
        self.more = {}
        if hasattr(self.client, "system"):
            self.first = self.client.system(SYSTEM)
        else:
            self.first = []
            gemini = {"systemInstruction": {"parts": [{"text": SYSTEM}]}}
            self.more = gemini if road.client is Gemini else {"system": [self.client.text(SYSTEM)]}
        self.begin("Find out why the tests fail.")
        self.replies = []

    def begin(self, task):
        self.conversation = self.first + self.user(task)

    @property
    def body(self):
        """The body of the next call."""
        body = self.client.body(self.conversation, tools=self.tools, limit=500, **self.more)
        return body | ({"model": self.road.model} if "model" in body else {})

    def user(self, text):
        return self.client.user(self.client.text(text))

    async def ask(self, scenario):
        """Send a call, and return the reply's content. The reply becomes a part of the conversation."""
        self.upstream.script(scenario)
        reply = await self.gateway.post(self.client.path(self.road.model, stream=False), self.body)
        assert reply.status == 200, await reply.text()
        answer = await reply.json()
        content = self.client.read_reply(answer)
        self.conversation = self.conversation + self.client.as_history(answer)
        self.replies.append((content.text, [(name, given) for _, name, given in content.calls], content.stop))
        return content

    async def work(self, turn, calls=1):
        """Make a call in which the model calls `calls` tools. Add the results of the tools to the conversation."""
        tools = [CALLS[(turn + number) % TURNS] for number in range(calls)]
        content = await self.ask(scenarios.tools(*tools, before="Let me look."))
        answered = []
        for made, name, _ in content.calls:
            output = "".join(OUTPUT.format(line) for line in range(turn, turn + 25))
            named = {"name": name} if isinstance(self.client, Gemini) else {}
            answered += self.client.answered(made, self.client.text(output), **named)
        self.conversation = self.conversation + self.client.joined(answered)


async def session(folder, road, turns, **more):
    """Let an agent make `turns` calls, one for each turn of a conversation, with the settings `road`.

    Return the records of the calls, the replies, and the bodies of the requests that the provider got.
    """
    async with started(folder, road, **more) as (gateway, upstream):
        agent = Agent(gateway, upstream, road)
        for turn in range(turns):
            await agent.work(turn)
        return await gateway.calls(turns), agent.replies, [seen.json for seen in upstream.requests]


def marks(body):
    return sum(bool(block.ttl) for block in blocks(body))


@every_road
async def test_a_session_costs_a_fraction_and_its_replies_are_the_same(road, tmp_path):
    turns = TURNS if road in MEASURED else 5
    plain, replies, _ = await session(tmp_path / "off", road, turns)
    cached, same, bodies = await session(tmp_path / "on", road, turns, auto_cache=road.setting)
    assert same == replies
    assert [record["auto_cached"] for record in cached] == [False] + [True] * (turns - 1)
    assert {record["auto_cached"] for record in plain} == {False}
    assert [marks(body) > 0 for body in bodies] == [record["auto_cached"] for record in cached]
    assert max(map(marks, bodies)) <= 4
    assert {record["dropped"] == plain[0]["dropped"] for record in (*plain, *cached)} == {True}
    for before, record in pairwise(cached[1:]):  # each call reads all that the call before wrote or read
        tokens = before["tokens"]
        assert record["tokens"]["cache_read"] == tokens["cache_read"] + tokens["cache_write_5m"] > 0
    costs = [sum(record["cost_usd"] for record in records) for records in (plain, cached)]
    assert costs[1] < costs[0] * (0.22 if road in MEASURED else 0.8), costs


class TestNova:
    """Tests with Nova. Nova finds a cache entry only if the request has a cache mark exactly where the entry ends.

    Nova accepts no cache mark after tools. The price list has no price for Nova's cache writes.
    """

    ROAD = Road(Chat, "bedrock_converse", model=NOVA)

    async def test_each_call_reads_what_the_call_before_wrote(self, tmp_path):
        records, _, bodies = await session(tmp_path, self.ROAD, 5, auto_cache=True, cost_basis=None)
        for before, record in pairwise(records[1:]):
            tokens = before["tokens"]
            assert record["tokens"]["cache_read"] == tokens["cache_read"] + tokens["cache_write_5m"] > 0
        assert "cachePoint" not in json.dumps([body["toolConfig"] for body in bodies])

    async def test_no_marks_are_placed_if_they_would_make_the_cost_unknown(self, tmp_path):
        async with started(tmp_path, self.ROAD, auto_cache=True) as (gateway, upstream):
            agent = Agent(gateway, upstream, self.ROAD)
            await agent.work(0)
            await agent.work(1)
            assert [(record["auto_cached"], record["cost_usd"] > 0) for record in await gateway.calls(2)] == [
                (False, True), (False, True),
            ]  # fmt: skip


CHAT = Road(Chat, "bedrock_converse")


async def asked(gateway, upstream, road, count, **more):
    """Make `count` calls of one session, with the settings `road`. Return the number of cache marks in each body that
    the provider got.
    """
    agent = Agent(gateway, upstream, road)
    for turn in range(count):
        await agent.work(turn, **more)
    return [marks(seen.json) for seen in upstream.requests]


@pytest.mark.parametrize("road", CANNOT_ASK[::3], ids=str)
async def test_nothing_is_placed_without_the_setting(road, tmp_path):
    async with started(tmp_path, road) as running:
        assert await asked(*running, road, 3) == [0, 0, 0]


@pytest.mark.parametrize("road", CAN_ASK, ids=str)
async def test_clients_that_can_ask_get_marks_only_with_all(road, tmp_path):
    async with started(tmp_path, road, auto_cache=True) as running:
        assert await asked(*running, road, 2) == [0, 0]


NATIVE = {
    b',"cache_control":{"type":"ephemeral"}': Road(Messages, "anthropic_messages", "all", CLAUDE),
    b',{"cachePoint":{"type":"default"}}': Road(Converse, "bedrock_converse", "all"),
}


@pytest.mark.parametrize("mark", NATIVE)
async def test_a_native_body_is_unchanged_but_for_the_marks(mark, tmp_path):
    road = NATIVE[mark]
    async with started(tmp_path, road, auto_cache="all") as (gateway, upstream):
        agent = Agent(gateway, upstream, road)
        await agent.work(0)
        sent = json.dumps(agent.body).encode()
        await agent.work(1)
        body = upstream.requests[1].body
    assert body.count(mark) == 4
    assert body.replace(mark, b"") == sent


async def test_marks_of_the_client_are_left_alone(tmp_path):
    """Check that the gateway adds no cache marks if the client sets its own.

    Chat clients such as opencode set `cache_control`, which the translator passes on.
    """
    async with started(tmp_path, CHAT, auto_cache=True) as (gateway, upstream):
        agent = Agent(gateway, upstream, CHAT)
        agent.conversation = agent.client.user(agent.client.text(PROSE, "5m"))
        await agent.work(0)
        await agent.work(1)
        assert [marks(seen.json) for seen in upstream.requests] == [1, 1]
        assert [record["auto_cached"] for record in await gateway.calls(2)] == [False, False]


async def test_a_turn_of_more_blocks_than_the_provider_looks_back_is_still_found(tmp_path):
    """Check that a call finds the cache entry of the previous call, even if 30 tool calls have been added since.

    A provider looks for an entry only within a limited number of content blocks before a cache mark.
    """
    async with started(tmp_path, CHAT, auto_cache=True) as (gateway, upstream):
        agent = Agent(gateway, upstream, CHAT)
        for turn in range(2):
            await agent.work(turn)
        await agent.work(2, calls=30)
        await agent.work(3)
        records = await gateway.calls(4)
    before, last = (record["tokens"] for record in records[2:])
    assert last["cache_read"] == before["cache_read"] + before["cache_write_5m"]


async def test_other_sessions_models_and_operations_count_for_themselves(tmp_path):
    async with started(tmp_path, CHAT, auto_cache=True, models=[SONNET, HAIKU]) as (gateway, upstream):
        one, other = Agent(gateway, upstream, CHAT), Agent(gateway, upstream, CHAT)
        other.begin("Another task.")
        await one.work(0)
        await other.work(0)
        assert [marks(seen.json) for seen in upstream.requests] == [0, 0]
        small = Agent(gateway, upstream, replace(CHAT, model=HAIKU))  # the same session at another model
        await small.work(0)
        assert marks(upstream.requests[-1].json) == 0
        await one.work(1)
        assert marks(upstream.requests[-1].json) == 4


async def test_a_count_of_tokens_gets_no_marks_and_is_no_call_of_the_session(tmp_path):
    road = Road(Messages, "anthropic_messages", "all", CLAUDE)
    async with started(tmp_path, road, auto_cache="all") as (gateway, upstream):
        agent = Agent(gateway, upstream, road)
        body = {name: value for name, value in agent.body.items() if name != "max_tokens"}
        for _ in range(2):
            assert (await gateway.post("/v1/messages/count_tokens", body)).status == 200
        await agent.work(0)
        assert (await gateway.post("/v1/messages/count_tokens", body)).status == 200
        assert [marks(seen.json) for seen in upstream.requests] == [0, 0, 0, 0]


async def test_a_call_that_the_provider_refused_does_not_count(tmp_path):
    async with started(tmp_path, CHAT, auto_cache=True) as (gateway, upstream):
        agent = Agent(gateway, upstream, CHAT)
        upstream.script(scenarios.error("ThrottlingException"))
        assert (await gateway.post("/v1/chat/completions", agent.body)).status == 429
        await agent.work(0)
        assert [marks(seen.json) for seen in upstream.requests] == [0, 0]


async def test_a_model_that_refuses_the_marks_is_asked_without_them_from_then_on(tmp_path):
    message = "You invoked an unsupported model or your request did not allow prompt caching. See the documentation."
    async with started(tmp_path, CHAT, auto_cache=True) as (gateway, upstream):
        agent = Agent(gateway, upstream, CHAT)
        await agent.work(0)
        upstream.script(scenarios.error("ValidationException", message))
        await agent.work(1)
        await agent.work(2)
        records = await gateway.calls(3)
    assert [marks(seen.json) for seen in upstream.requests] == [0, 4, 0, 0]
    assert [record["auto_cached"] for record in records] == [False] * 3
    assert [record["outcome"] for record in records] == ["ok"] * 3
    assert [record["dropped"] for record in records[1:]] == [records[0]["dropped"]] * 2


async def test_marks_are_no_loss(tmp_path):
    async with started(tmp_path, CHAT, auto_cache=True, on_loss="refuse") as running:
        assert await asked(*running, CHAT, 2) == [0, 4]


async def test_an_entry_of_an_hour_is_written_and_billed_as_such(tmp_path):
    records, _, _ = await session(tmp_path, CHAT, 3, auto_cache=True, auto_cache_ttl="1h")
    assert [record["tokens"]["cache_write_1h"] > 0 for record in records] == [False, True, True]
    assert [record["tokens"]["cache_write_5m"] for record in records] == [0, 0, 0]
    assert [record["estimated"] for record in records] == [False] * 3


async def test_pages_say_which_call_got_marks_and_who_could_ask(tmp_path):
    hint = "cannot ask for caching"
    async with started(tmp_path / "off", CHAT) as (gateway, upstream):
        await asked(gateway, upstream, CHAT, 1)
        await gateway.running.gateway.follower.flush()
        assert hint in await (await gateway.get("/ui/cache")).text()
    async with started(tmp_path / "on", CHAT, auto_cache=True) as (gateway, upstream):
        await asked(gateway, upstream, CHAT, 2)
        records = await gateway.calls(2)
        await gateway.running.gateway.follower.flush()
        pages = [await (await gateway.get(f"/ui/calls?id={record['id']}")).text() for record in records]
        stored = [await (await gateway.get(f"/api/calls/{record['id']}")).json() for record in records]
        assert ["placed by the gateway" in page for page in pages] == [False, True]
        assert [record["auto_cached"] for record in stored] == [False, True]
        assert hint not in await (await gateway.get("/ui/cache")).text()


async def test_prompts_that_begin_with_the_time_get_no_more_marks(tmp_path):
    async with started(tmp_path, CHAT, auto_cache=True) as (gateway, upstream):
        agent = Agent(gateway, upstream, CHAT)
        agent.tools = []
        headers = {"x-session-id": "s-1"}
        for second in range(6):
            agent.conversation[0] = {"role": "system", "content": f"It is 10:00:0{second}. {SYSTEM}"}
            reply = await gateway.post("/v1/chat/completions", {**agent.body, "tools": None}, headers=headers)
            assert reply.status == 200
        records = await gateway.calls(6)
    assert [record["auto_cached"] for record in records] == [False, True, True, True, False, False]
