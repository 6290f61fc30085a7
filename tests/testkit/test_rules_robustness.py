"""Whatever JSON arrives, the judges answer with a fault or with none; they never fall over it."""

import copy
import random

import pytest

from gateway.caps import capabilities
from gateway.testkit.judge import judge
from gateway.testkit.rules_chat import chat_fault
from gateway.testkit.rules_claude import claude_fault
from gateway.testkit.rules_converse import converse_fault
from tests.testkit import test_rules_chat as chat
from tests.testkit import test_rules_claude as claude
from tests.testkit import test_rules_converse as converse

CLAUDE = capabilities("anthropic.claude-sonnet-4-5-20250929-v1:0")
SEED, ROUNDS = 7, 500
ODD = (None, True, 0, -1, 1.5, "", " ", "x", [], ["x"], [None], [[]], {}, {"type": "x"}, {"type": {}}, {"x": []})

BODIES = {
    "converse": converse.body(
        converse.user("hi", converse.document(), converse.image(), converse.POINT),
        converse.assistant(converse.thought(), converse.use()),
        converse.user(converse.result()),
        system=[converse.text(), converse.POINT],
        toolConfig={"tools": [converse.SPEC], "toolChoice": {"tool": {"name": "t"}}},
        inferenceConfig={"maxTokens": 5, "temperature": 1, "stopSequences": ["x"]},
        **converse.extra(thinking={"type": "disabled"}, output_config={"effort": "high"}, anthropic_beta=["a"],
                         tool_choice={"disable_parallel_tool_use": True}),
    ),
    "claude": claude.body(
        claude.user("hi", claude.image(), claude.text("a", **claude.MARK)),
        claude.assistant(claude.thought(), claude.use()),
        claude.user(claude.result(content=[claude.text(), claude.image()])),
        system=[claude.text()],
        tools=[claude.TOOL, {"type": "bash_20250124", "name": "bash"}],
        tool_choice={"type": "tool", "name": "t"},
        thinking={"type": "disabled"},
        output_config={"effort": "high"},
        context_management={"edits": [{"type": "compact_20260112"}]},
        anthropic_beta=["a"],
        stop_sequences=["x"],
    ),
    "chat": chat.body(
        chat.USER,
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]},
        chat.calling(chat.call()),
        chat.answer(),
        tools=[chat.TOOL],
        tool_choice={"type": "function", "function": {"name": "t"}},
        response_format={"type": "text"},
        stop=["x"],
    ),
}  # fmt: skip
JUDGES = {
    "converse": lambda body: judge("Converse", body) or converse_fault(body, CLAUDE),
    "claude": lambda body: (claude_fault(body, CLAUDE, bedrock=True), claude_fault(body, CLAUDE, bedrock=False)),
    "chat": chat_fault,
}


def places(node, found=None):
    """All containers of a body with a key or an index in them."""
    found = [] if found is None else found
    for key, inner in list(node.items() if isinstance(node, dict) else enumerate(node)):
        found.append((node, key))
        if isinstance(inner, dict | list):
            places(inner, found)
    return found


@pytest.mark.parametrize("name", BODIES)
def test_no_wrong_value_at_any_place_makes_a_judge_fall_over(name):
    JUDGES[name](BODIES[name])
    for index in range(len(places(BODIES[name]))):
        for odd in ODD:
            changed = copy.deepcopy(BODIES[name])
            node, key = places(changed)[index]
            node[key] = odd
            JUDGES[name](changed)


@pytest.mark.parametrize("name", BODIES)
def test_a_body_with_several_odd_places_is_judged_too(name):
    chance = random.Random(SEED)
    for _ in range(ROUNDS):
        changed = copy.deepcopy(BODIES[name])
        for _ in range(chance.randint(1, 4)):
            if found := places(changed):
                node, key = chance.choice(found)
                node[key] = copy.deepcopy(chance.choice(ODD))
        JUDGES[name](changed)


def test_the_bodies_that_are_changed_are_right_themselves():
    assert JUDGES["converse"](BODIES["converse"]) is None
    assert JUDGES["claude"](BODIES["claude"])[0] is None
    assert JUDGES["chat"](BODIES["chat"]) is None
