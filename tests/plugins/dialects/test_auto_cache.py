"""Tests of the cache marks that the gateway adds to bodies of Messages and Converse. Nothing else in the body may
change.
"""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.capabilities import capabilities
from gateway.contract.errors import INVALID_REQUEST, OVERLOADED, PERMISSION, Problem
from gateway.contract.flag import OPAQUE, ClientRequest, Members, Target
from gateway.testkit.rules.claude import claude_fault
from gateway.testkit.rules.converse import converse_fault
from gateway_plugins.dialects.anthropic_messages import auto_cache as messages_marks
from gateway_plugins.dialects.bedrock_converse import auto_cache as converse_marks
from gateway_plugins.shared.auto_cache import FEATURE, retried
from tests.helpers.own_plugins import discover_own

CLAUDE = capabilities("anthropic.claude-sonnet-4-5-20250929-v1:0")
NOVA = capabilities("amazon.nova-lite-v1:0")
LONG = "word " * 1000
"""A text that is long enough to be cached by every model that the tests use."""
MARK = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
POINT = {"cachePoint": {"type": "default"}}


def request(dialect, body, **more):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ClientRequest(dialect, dialect, "generate", "POST", "/", "", {}, Members(text), "m", False, **more)


def target(dialect, caps):
    return Target("p", dialect, "m", dialect, caps)


def marked(body, caps=CLAUDE, lifetime="5m"):
    """Return the Messages body with the gateway's cache marks, or None if the gateway sets no mark."""
    result = messages_marks.mark_cache(
        request("anthropic_messages", body), target("anthropic_messages", caps), lifetime
    )
    return result and json.loads(result.top.body)


def pointed(body, caps=CLAUDE, lifetime="5m"):
    """Return the Converse body with the gateway's cache marks, or None if the gateway sets no mark."""
    result = converse_marks.mark_cache(request("bedrock_converse", body), target("bedrock_converse", caps), lifetime)
    return result and json.loads(result.top.body)


def text(value="hi", **more):
    return {"type": "text", "text": value, **more}


def tool(name="look", **more):
    return {"name": name, "input_schema": {"type": "object"}, **more}


def user(*content):
    return {"role": "user", "content": list(content)}


def assistant(*content):
    return {"role": "assistant", "content": list(content)}


def called(made="a"):
    return {"type": "tool_use", "id": made, "name": "look", "input": {}}


def result(made="a", **more):
    return {"type": "tool_result", "tool_use_id": made, "content": [text("42")], **more}


SESSION = {
    "max_tokens": 9,
    "tools": [tool("look", description=LONG), tool("go")],
    "system": [text(LONG), text("Be brief.")],
    "messages": [
        user(text("first")), assistant(called("a")), user(result("a")), assistant(called("b")), user(result("b"), text("go on")),
    ],
}  # fmt: skip
CONVERSE = {
    "toolConfig": {
        "tools": [{"toolSpec": {"name": "look", "description": LONG, "inputSchema": {"json": {"type": "object"}}}}]
    },
    "system": [{"text": LONG}],
    "messages": [
        {"role": "user", "content": [{"text": "first"}]},
        {"role": "assistant", "content": [{"text": "answer"}]},
        {"role": "user", "content": [{"text": "second"}]},
    ],
}


class TestMessages:
    def test_marks_follow_tools_and_system_and_end_the_last_two_turns(self):
        made = marked(SESSION)
        assert made["tools"] == [SESSION["tools"][0], tool("go", **MARK)]
        assert made["system"] == [SESSION["system"][0], text("Be brief.", **MARK)]
        assert made["messages"] == [
            *SESSION["messages"][:2], user(result("a", **MARK)), SESSION["messages"][3],
            user(result("b"), text("go on", **MARK)),
        ]  # fmt: skip

    def test_the_earlier_mark_stands_where_the_call_before_ended(self):
        before = {**SESSION, "messages": SESSION["messages"][:3]}
        assert marked(before)["messages"][2] == marked(SESSION)["messages"][2]

    def test_an_hour_is_asked_for_only_if_the_model_has_it(self):
        assert marked(SESSION, lifetime="1h")["tools"][1] == tool("go", **HOUR)
        assert marked(SESSION, replace(CLAUDE, cache_ttl=False), "1h")["tools"][1] == tool("go", **MARK)

    def test_a_text_becomes_a_block_that_can_carry_a_mark(self):
        body = {"system": LONG, "messages": [{"role": "user", "content": "hello"}]}
        assert marked(body) == {"system": [text(LONG, **MARK)], "messages": [user(text("hello", **MARK))]}

    @pytest.mark.parametrize(
        ("last", "at"),
        [
            (user(text("a"), text("  ")), 0),  # no mark on blank text
            (user(text("a"), {"type": "container_upload", "file_id": "f"}), 0),
            (user(text("a"), {"type": "image", "source": {}}), 1),
        ],
    )
    def test_only_a_block_that_can_carry_a_mark_gets_it(self, last, at):
        (message,) = marked({"system": LONG, "messages": [last]})["messages"]
        assert [index for index, block in enumerate(message["content"]) if "cache_control" in block] == [at]

    def test_a_turn_that_the_model_continues_gets_no_mark(self):
        body = {"system": LONG, "messages": [user(text("list")), assistant(text("1."))]}
        assert marked(body)["messages"] == [user(text("list", **MARK)), assistant(text("1."))]

    def test_a_system_message_between_turns_gets_no_mark(self):
        between = {"role": "system", "content": "new rules"}
        made = marked({**SESSION, "messages": [*SESSION["messages"], between]})
        assert made["messages"][-2:] == [user(result("b"), text("go on", **MARK)), between]

    def test_a_tool_that_is_loaded_later_gets_no_mark(self):
        tools = [tool("look", description=LONG), tool("late", defer_loading=True)]
        assert marked({**SESSION, "tools": tools})["tools"] == [{**tools[0], **MARK}, tools[1]]

    def test_short_beginnings_get_no_marks(self):
        short = {"tools": [tool()], "system": "Be brief.", "messages": [user(text(LONG))]}
        assert marked(short) == {**short, "messages": [user(text(LONG, **MARK))]}
        assert marked({**short, "messages": [user(text("hi"))]}) is None
        assert marked(short, replace(CLAUDE, cache_min_tokens=4096)) is None

    @pytest.mark.parametrize(
        "own",
        [
            {"cache_control": {"type": "ephemeral"}},
            {"tools": [tool(**MARK)]},
            {"tools": [tool(cache_control=None)]},
            {"system": [text(LONG, **HOUR)]},
            {"messages": [user(text("a", **MARK)), assistant(text("b")), user(text("c"))]},
            {"messages": [user(result(content=[text("x", **MARK)]))]},
        ],
    )
    def test_nothing_is_placed_beside_marks_of_the_client(self, own):
        assert marked({**SESSION, **own}) is None

    def test_a_mark_with_an_escaped_name_is_the_clients_own(self):
        body = json.dumps({**SESSION, "system": [text(LONG, **MARK)]}).replace("cache_control", "c\\u0061che_control")
        assert marked(body.encode()) is None

    def test_words_in_texts_and_arguments_are_no_marks(self):
        about = [
            user(text('write "cache_control": {"type": "ephemeral"} and \\u0061')),
            assistant({**called(), "input": {"cache_control": 1}}), user(result()),
        ]  # fmt: skip
        assert marked({**SESSION, "messages": about})["messages"][2] == user(result(**MARK))

    @pytest.mark.parametrize("caps", [replace(CLAUDE, cache_points=False), capabilities("acme-1")])
    def test_a_model_that_cannot_cache_gets_no_marks(self, caps):
        assert marked(SESSION, caps) is None

    def test_a_body_that_is_passed_through_gets_no_marks(self):
        given = request(OPAQUE, SESSION)
        assert messages_marks.mark_cache(given, target("anthropic_messages", CLAUDE), "5m") is None
        given = request("anthropic_messages", SESSION)
        assert messages_marks.mark_cache(given, target(OPAQUE, CLAUDE), "5m") is None

    @pytest.mark.parametrize(
        "broken",
        [
            {"messages": "hi"}, {"messages": [1]}, {"messages": [user(1)]}, {"messages": [user(text(LONG)), None]},
            {"tools": "none"}, {"tools": [1]}, {"system": 5}, {"messages": [{"role": [], "content": {}}]},
            {"messages": [user({"type": ["text"], "text": 1})]},
        ],
    )  # fmt: skip
    def test_a_malformed_body_is_left_to_the_provider(self, broken):
        made = marked({**SESSION, **broken})
        assert made is None or all(made[name] == value for name, value in broken.items())

    def test_all_other_bytes_stay_as_they_are(self):
        given = b'{ "n" : 1.0 , "system":[ {"type":"text", "big":12345678901234567890123, "text":"%s"} ] , "messages" : [ ] }'
        given = given.replace(b"%s", LONG.encode())
        made = messages_marks.mark_cache(
            request("anthropic_messages", given), target("anthropic_messages", CLAUDE), "5m"
        )
        mark = b',"cache_control":{"type":"ephemeral"}}'
        assert made.top.body == given.replace(b'"} ]', b'"' + mark + b" ]")


class TestConverse:
    def test_points_follow_tools_and_system_and_end_the_last_two_turns(self):
        made = pointed(CONVERSE)
        assert made["toolConfig"]["tools"] == [*CONVERSE["toolConfig"]["tools"], POINT]
        assert made["system"] == [*CONVERSE["system"], POINT]
        assert [message["content"][1:] for message in made["messages"]] == [[POINT], [], [POINT]]

    def test_nova_gets_no_point_after_tools_and_no_lifetime(self):
        made = pointed(CONVERSE, NOVA, "1h")
        assert made["toolConfig"] == CONVERSE["toolConfig"]
        assert made["system"] == [*CONVERSE["system"], POINT]

    def test_an_hour_is_asked_for_where_the_model_has_it(self):
        assert pointed(CONVERSE, lifetime="1h")["system"][-1] == {"cachePoint": {"type": "default", "ttl": "1h"}}

    @pytest.mark.parametrize(("document", "at"), [("csv", 1), ("pdf", 2)])
    def test_no_point_follows_a_document_of_text(self, document, at):
        content = [{"text": "read"}, {"document": {"format": document, "name": "d", "source": {"bytes": "QUJD"}}}]
        (message,) = pointed({"system": [{"text": LONG}], "messages": [user(*content)]})["messages"]
        assert message["content"] == [*content[:at], POINT, *content[at:]]

    @pytest.mark.parametrize(
        "own",
        [
            {"system": [{"text": LONG}, POINT]},
            {"toolConfig": {"tools": [*CONVERSE["toolConfig"]["tools"], POINT]}},
            {"messages": [{"role": "user", "content": [{"text": "a"}, POINT, {"text": "b"}]}]},
        ],
    )
    def test_nothing_is_placed_beside_points_of_the_client(self, own):
        assert pointed({**CONVERSE, **own}) is None

    def test_short_prompts_and_other_models_get_no_points(self):
        assert pointed({"messages": CONVERSE["messages"]}) is None
        assert pointed(CONVERSE, capabilities("meta.llama4-maverick-17b-instruct-v1:0")) is None

    @pytest.mark.parametrize(
        "broken", [{"messages": 1}, {"system": "x"}, {"toolConfig": [LONG]}, {"messages": [user(1)]}]
    )
    def test_a_malformed_body_is_left_to_the_provider(self, broken):
        assert pointed({**CONVERSE, **broken}) is None


WAYS = {
    "anthropic_messages": (messages_marks, SESSION),
    "bedrock_converse": (converse_marks, CONVERSE),
}
ways = pytest.mark.parametrize("dialect", WAYS)


@ways
class TestRefusedMarks:
    REFUSALS = (
        (INVALID_REQUEST, "You invoked an unsupported model or your request did not allow prompt caching."),
        (INVALID_REQUEST, "extraneous key [cachePoint] is not permitted"),
        (INVALID_REQUEST, "A maximum of 4 blocks with cache_control may be provided. Found 5."),
        (PERMISSION, "You don't have access to explicit prompt caching"),
    )

    def refused(self, dialect, code, message, **more):
        marks, body = WAYS[dialect]
        given = request(dialect, body)
        made = replace(marks.mark_cache(given, target(dialect, CLAUDE), "5m"), auto_cached=True, **more)
        return given, discover_own().flags[dialect].retry(
            made, target(dialect, CLAUDE), Problem(code, message), [].append
        )

    @pytest.mark.parametrize(("code", "message"), REFUSALS)
    def test_the_request_goes_again_without_them(self, dialect, code, message):
        given, again = self.refused(dialect, code, message)
        assert again.top.body == given.top.body
        assert (again.auto_cached, again.without) == (False, (FEATURE,))

    @pytest.mark.parametrize(("code", "message"), [(INVALID_REQUEST, "prompt is too long"), (OVERLOADED, "cachePoint")])
    def test_another_problem_does_not_remove_them(self, dialect, code, message):
        assert self.refused(dialect, code, message)[1] is None

    def test_marks_of_the_client_are_never_removed(self, dialect):
        marks, body = WAYS[dialect]
        made = marks.mark_cache(request(dialect, body), target(dialect, CLAUDE), "5m")
        assert retried(made, Problem(*self.REFUSALS[1]), marks.unmarked) is None

    def test_later_calls_get_none(self, dialect):
        marks, body = WAYS[dialect]
        given = request(dialect, body, without=(FEATURE,))
        assert marks.mark_cache(given, target(dialect, CLAUDE), "5m") is None


TEXTS = st.sampled_from(
    ["hi", " ", "Grüße", '"cache_control":{"type":"ephemeral"}', '{"cachePoint":{}}', "\\u0061", LONG]
)
BLOCKS = st.one_of(
    TEXTS.map(text),
    st.just({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}),
    st.just(result("a")),
)
CONVERSE_BLOCKS = st.one_of(
    TEXTS.map(lambda value: {"text": value}),
    st.just({"document": {"format": "txt", "name": "d", "source": {"bytes": "QUJD"}}}),
    st.just({"toolResult": {"toolUseId": "a", "content": [{"text": "42"}]}}),
)
WRITTEN = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}])


def messages_of(blocks):
    return st.lists(
        st.builds(lambda role, content: {"role": role, "content": content}, st.sampled_from(["user", "assistant"]), st.lists(blocks, min_size=1, max_size=4)),
        min_size=1, max_size=8,
    )  # fmt: skip


BODIES = {
    "anthropic_messages": st.fixed_dictionaries(
        {"messages": messages_of(BLOCKS)},
        optional={
            "tools": st.lists(st.builds(tool, description=TEXTS), max_size=3),
            "system": st.lists(TEXTS.map(text), max_size=2),
        },
    ),
    "bedrock_converse": st.fixed_dictionaries(
        {"messages": messages_of(CONVERSE_BLOCKS)},
        optional={"system": st.lists(TEXTS.map(lambda value: {"text": value}), max_size=2)},
    ),
}


def marks_in(dialect, value):
    """Return the number of cache marks in the tools, the system prompt and the messages of a request."""
    parts = [value.get("tools", ()), value.get("system", ()), *(message["content"] for message in value["messages"])]
    name = "cachePoint" if dialect == "bedrock_converse" else "cache_control"
    return sum(name in block for part in parts for block in part)


@ways
@given(data=st.data())
def test_at_most_four_marks_are_added_and_nothing_else_changes(dialect, data):
    marks, _ = WAYS[dialect]
    body = json.dumps(data.draw(BODIES[dialect]), **data.draw(WRITTEN)).encode()
    made = marks.mark_cache(request(dialect, body), target(dialect, replace(CLAUDE, cache_min_tokens=1)), "5m")
    if made is None:
        return
    assert 1 <= marks_in(dialect, json.loads(made.top.body)) <= 4
    assert marks.unmarked(made.top).body == body
    assert marks.mark_cache(request(dialect, made.top.body), target(dialect, CLAUDE), "5m") is None


@ways
def test_the_providers_rules_accept_the_marks(dialect):
    made = marked(SESSION) if dialect == "anthropic_messages" else pointed(CONVERSE)
    fault = (
        claude_fault({"anthropic_version": "bedrock-2023-05-31", **made}, CLAUDE, bedrock=True)
        if dialect == "anthropic_messages"
        else converse_fault(made, CLAUDE)
    )
    assert fault is None
