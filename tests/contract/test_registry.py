"""Tests of the registry of plugins. It finds plugins by name, checks them when they are loaded, and replaces missing
functions of a plugin by defaults.
"""

import types

import pytest

from gateway.contract.flag import Head, HttpRequest, Members, Route
from gateway.contract.plugin_candidates import candidates
from gateway.contract.plugin_checks import FLAG, TRANSLATOR, kind_of, mistakes
from gateway.contract.plugin_conflicts import claimed_routes, unknown_dialects
from gateway.contract.registry import PluginError, discover, load_plugin
from gateway.process.app import own_routes
from tests.helpers.own_plugins import discover_own

MINIMAL = '''
"""A plain API: what a flag must say, and nothing else."""

from gateway.contract.flag import Facts, Part, Route, UpstreamRequest, Usage

api = 1
dialects = ("example_chat",)
routes = (Route("POST", "/example/chat", "generate"),)


def build(ask, target, drop):
    return UpstreamRequest("POST", "/chat", ask.top.body, headers={"content-type": "application/json"})


class Meter:
    def __init__(self):
        self._output = 0

    def feed(self, event):
        self._usage(event.data)

    def whole(self, body):
        pass

    def facts(self):
        return Facts((Part(usage=Usage(output=self._output)),))

    def _usage(self, data):
        self._output = data.get("tokens", 0) or self._output


def meter(ask, target, head):
    return Meter()
'''


def test_the_built_in_flags_are_named_as_their_files():
    assert set(discover_own().flags) == {
        "anthropic_messages", "bedrock_converse", "bedrock_model_invoke", "gemini_generate_content",
        "openai_chat", "openai_responses",
    }  # fmt: skip


@pytest.mark.parametrize("candidate", list(candidates(None, [])), ids=lambda candidate: candidate.name)
def test_a_built_in_plugin_passes_the_checks_of_other_plugins(candidate):
    """Check that every built-in plugin passes the checks that plugins of other authors must pass. The gateway can
    therefore skip these checks for built-in plugins when it starts.
    """
    assert candidate.is_built_in
    name, module, flags = candidate.name, candidate.load(), discover().flags
    kind = kind_of(name, module)
    assert list(mistakes(kind, name, module)) == []
    if kind is FLAG:
        others = [flag for other, flag in flags.items() if other != name]
        assert list(claimed_routes(name, module, others, own_routes())) == []
    if kind is TRANSLATOR:
        assert list(unknown_dialects(name, module, flags.values())) == []


def test_the_built_in_conversions_are_named_as_their_pairs_of_dialects():
    ways = {
        "anthropic_messages": {"bedrock_converse", "openai_chat", "gemini_generate_content"},
        "bedrock_converse": {"anthropic_messages", "openai_chat", "gemini_generate_content"},
        "gemini_generate_content": {"anthropic_messages", "bedrock_converse", "openai_chat"},
        "openai_chat": {"anthropic_messages", "bedrock_converse", "gemini_generate_content"},
        "openai_responses": {"anthropic_messages", "bedrock_converse", "openai_chat", "gemini_generate_content"},
    }
    assert set(discover_own().translators) == {(client, upstream) for client in ways for upstream in ways[client]}


def test_a_single_file_of_a_folder_is_a_flag_of_under_forty_lines(tmp_path):
    assert len(MINIMAL.strip().splitlines()) < 40
    (tmp_path / "example_chat.py").write_text(MINIMAL)
    flag = discover(tmp_path).flags["example_chat"]
    request = HttpRequest(flag.routes[0], "/example/chat", "", {}, {}, b'{"model":"m","stream":true}')
    ask = flag.parse(request)
    assert (ask.flag, ask.dialect, ask.model, ask.stream) == ("example_chat", "example_chat", "m", True)
    assert flag.problem(Head(503, {}), b'{"error":{"message":"busy"}}').message == "busy"
    assert flag.content_type == "text/event-stream"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"api": 99}, "api = 99; write api = 1, the version of this gateway"),
        ({"build": lambda ask: None}, "build must take 3 argument"),
        ({"parse": "x"}, "parse is not a function"),
        ({"meter": None}, 'has no "meter"'),
    ],
)
def test_a_plugin_that_does_not_fit_is_refused_by_name(changes, message):
    module = types.ModuleType("broken")
    exec(MINIMAL, module.__dict__)
    for name, value in changes.items():
        if value is None:
            delattr(module, name)
        else:
            setattr(module, name, value)
    with pytest.raises(PluginError, match=message) as error:
        load_plugin("broken", module)
    assert "plugin broken" in str(error.value)


@pytest.mark.parametrize(
    "body", [b'{"Model":"a"}', b'{"model":"a","MODEL":"b"}', b'{"model":1}', b'{"model":""}', b"{}"]
)
def test_a_body_whose_model_is_unclear_is_refused(body):
    flag = discover().flags["openai_chat"]
    from gateway.contract.errors import Refused

    with pytest.raises(Refused, match="model"):
        flag.parse(HttpRequest(Route("POST", "/", "generate"), "/", "", {}, {}, body))


def test_members_of_inner_objects_may_be_called_model_twice():
    assert Members(b'{"model":"a","tools":[{"model":1},{"model":2}]}').decode("model") == "a"
