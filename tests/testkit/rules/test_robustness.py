"""Tests that the testkit's rules for requests return a fault or None for any JSON, and never raise an exception."""

import copy
import random

import pytest

from gateway.contract.capabilities import capabilities
from gateway.testkit.judge import judge
from gateway.testkit.rules.chat import chat_fault
from gateway.testkit.rules.claude import claude_fault
from gateway.testkit.rules.converse import converse_fault
from tests.testkit.rules import test_chat, test_claude, test_converse

CLAUDE = capabilities("anthropic.claude-sonnet-4-5-20250929-v1:0")
SEED, ROUNDS = 7, 500
ODD = (None, True, 0, -1, 1.5, "", " ", "x", [], ["x"], [None], [[]], {}, {"type": "x"}, {"type": {}}, {"x": []})

BODIES = {
    "converse": test_converse.body(
        test_converse.user("hi", test_converse.document(), test_converse.image(), test_converse.POINT),
        test_converse.assistant(test_converse.thought(), test_converse.use()),
        test_converse.user(test_converse.result()),
        system=[test_converse.text(), test_converse.POINT],
        toolConfig={"tools": [test_converse.SPEC], "toolChoice": {"tool": {"name": "t"}}},
        inferenceConfig={"maxTokens": 5, "temperature": 1, "stopSequences": ["x"]},
        **test_converse.extra(thinking={"type": "disabled"}, output_config={"effort": "high"}, anthropic_beta=["a"],
                         tool_choice={"disable_parallel_tool_use": True}),
    ),
    "claude": test_claude.body(
        test_claude.user("hi", test_claude.image(), test_claude.text("a", **test_claude.MARK)),
        test_claude.assistant(test_claude.thought(), test_claude.use()),
        test_claude.user(test_claude.result(content=[test_claude.text(), test_claude.image()])),
        system=[test_claude.text()],
        tools=[test_claude.TOOL, {"type": "bash_20250124", "name": "bash"}],
        tool_choice={"type": "tool", "name": "t"},
        thinking={"type": "disabled"},
        output_config={"effort": "high"},
        context_management={"edits": [{"type": "compact_20260112"}]},
        anthropic_beta=["a"],
        stop_sequences=["x"],
    ),
    "chat": test_chat.body(
        test_chat.USER,
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]},
        test_chat.calling(test_chat.call()),
        test_chat.answer(),
        tools=[test_chat.TOOL],
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


def places(node, paths=None):
    """Yield all lists and dicts in a body, each with one of its keys or indexes."""
    paths = [] if paths is None else paths
    for key, inner in list(node.items() if isinstance(node, dict) else enumerate(node)):
        paths.append((node, key))
        if isinstance(inner, dict | list):
            places(inner, paths)
    return paths


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
            if paths := places(changed):
                node, key = chance.choice(paths)
                node[key] = copy.deepcopy(chance.choice(ODD))
        JUDGES[name](changed)


def test_the_bodies_that_are_changed_are_right_themselves():
    assert JUDGES["converse"](BODIES["converse"]) is None
    assert JUDGES["claude"](BODIES["claude"])[0] is None
    assert JUDGES["chat"](BODIES["chat"]) is None
