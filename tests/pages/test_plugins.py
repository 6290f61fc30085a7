"""Tests of the examples in `plugins/guide.md`, run unchanged."""

import json
import re
from pathlib import Path

import orjson
import pytest

from gateway.config.load import loads
from gateway.contract import json_api, sse_api
from gateway.contract.capabilities import Caps
from gateway.contract.filter import Hold
from gateway.contract.flag import HttpRequest, Route, Target
from gateway.contract.registry import discover
from gateway.testkit.laws.check import check
from tests.config.examples import config
from tests.helpers.acme_api import PIECES, acme_api
from tests.helpers.gateway import gate
from tests.helpers.source_tree import ROOT

PAGE = (Path(__file__).resolve().parents[2] / "plugins" / "guide.md").read_text()
FLAG, LIVE, OPTIONS, FILTER, PATTERN, OBSERVER, _ = re.findall(
    r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
)
CONFIGURATION, FILTERS = re.findall(r"^```jsonc\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
async def acme():
    async with acme_api() as url:
        yield url


@pytest.fixture
def plugins(tmp_path):
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "acme_text.py").write_text(FLAG)
    (folder / "costs.py").write_text(OBSERVER)
    return folder


def test_the_configuration_of_the_page_loads_without_a_warning(plugins):
    loaded = loads(CONFIGURATION, plugins=discover(plugins).known, environ={"ACME_KEY": "k"})
    assert loaded.warnings == ()


@pytest.mark.parametrize("stream", [False, True])
async def test_the_flag_of_the_page_serves_and_counts(tmp_path, plugins, acme, stream):
    provider = {"baseurl": acme, "apikey": "k", "models": ["acme-1"], "compatibility": {"acme_text": True}}
    async with gate(tmp_path, {"acme": provider}, plugins=plugins) as gw:
        request = {"model": "acme/acme-1", "prompt": "hello", "stream": stream}
        reply = await gw.post("/acme/v1/text", request)
        assert reply.status == 200
        if stream:
            events = [line.removeprefix(b"data: ") for line in reply.body.split(b"\n\n") if line]
            assert [orjson.loads(event).get("text") for event in events[:2]] == list(PIECES)
            assert events[-1] == b"[DONE]"
        else:
            assert orjson.loads(reply.body)["asked"] == request | {"model": "acme-1"}
        (record,) = await gw.calls()
        assert (record["tokens"]["input"], record["tokens"]["output"], record["stop"]) == (3, 2, "end")
        assert record["api"] == record["upstream_api"] == "acme_text"


def test_the_options_of_the_page_reach_the_request(tmp_path):
    (tmp_path / "acme_text.py").write_text(FLAG + OPTIONS)
    registry = discover(tmp_path)
    entry = {"compatibility": {"acme_text": True}, "options": {"acme_text": {"tier": "express"}}}
    provider = loads(config(entry), plugins=registry.known).config.providers["p"]
    flag = registry.flags["acme_text"]
    request = flag.parse(HttpRequest(flag.routes[0], "/acme/v1/text", "", {}, {}, b'{"model": "acme-1"}'))
    target = Target("p", flag.name, "acme-1", "acme_text", Caps(), provider.options["acme_text"])
    assert flag.build(request, target, print).path == "/v1/express/text"
    report = check("acme_text", registry)
    assert report.holds, str(report)


def test_the_observer_of_the_page_is_one(plugins, capsys):
    observers = discover(plugins).observers
    observers["costs"]["seen"].call({"identity": "ada@example.com", "model": "acme-1", "cost_usd": 0.5})
    assert capsys.readouterr().out == "ada@example.com acme-1 0.5\n"


@pytest.mark.parametrize("plugin", ["acme_text", "costs"])
def test_the_laws_hold_for_the_plugins_of_the_page(plugins, plugin):
    report = check(plugin, discover(plugins))
    assert report.holds, str(report)


def test_the_filter_of_the_page_is_the_example():
    example = (ROOT / "plugins" / "examples" / "guard.py").read_text()
    code = FILTER.partition('"""\n\n')[2]
    # the page leaves out the samples
    assert code in example.replace("from gateway.contract.samples import FilterSample\n", "")


def test_the_filters_of_the_page_can_be_configured():
    registry = discover(ROOT / "plugins" / "examples")
    configured = json.loads(FILTERS)
    assert loads(config(**configured), plugins=registry.known).config.plugins[1].name == "guard"


@pytest.mark.parametrize("stream", [False, True])
def test_the_changed_names_of_the_page_are_read(stream):
    """Check the page's example of an API that has other names for fields and events: the plugin reads its requests and
    streams.
    """
    module = {"json_api": json_api, "sse_api": sse_api}
    exec(LIVE, module)
    body = json.dumps({"engine": "acme-1", "live": stream}).encode()
    request = HttpRequest(Route("POST", "/acme/live", "generate"), "/acme/live", "", {}, {}, body)
    parsed = module["parse"](request)
    assert (parsed.model, parsed.stream, parsed.operation) == ("acme-1", stream, "generate")
    decoder = module["decoder"](parsed, None, None)
    events = list(decoder.feed(b'data: {"o": "x"}\n\ndata: {"end": true}\n\n'))
    assert (len(events), decoder.done) == (2, True)


def test_a_pattern_that_looks_at_its_neighbours_is_found_across_pieces():
    names = {"re": re, "Hold": Hold}
    exec(PATTERN, names)
    whole = "123-45-6789, 9123-45-6789 and 123-45-67890; 123-45-6789"
    for size in range(1, len(whole) + 1):
        shown, held = "", ""
        for start in range(0, len(whole), size):
            piece = held + whole[start : start + size]
            result = names["text"](None, "text", piece, start + size >= len(whole))
            shown, held = shown + result.text, result.rest
        assert (shown, held) == ("***, 9123-45-6789 and 123-45-67890; ***", "")
