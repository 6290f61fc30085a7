"""Tests that the check of each law finds a plugin that breaks it, and reports a small input that shows the mistake.

The plugins are those that `irisgate plugins new` writes, with one change each.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.contract.plugin_checks import Mistake
from gateway.contract.registry import Skipped, discover
from gateway.process.new_plugin import package_files
from gateway.testkit.laws.check import NotChecked, check
from gateway.testkit.laws.chunks import divided, fewest_borders
from gateway.testkit.laws.mutations import ODD, damaged, matches, pointers
from gateway.testkit.laws.place_laws import NO_PLACES, PLACE_LAWS

TRANSLATOR = (Path(__file__).parents[1] / "release/outer/openai_chat__zenith_text.py").read_text()
NAMES = {"flag": "acme_text", "filter": "acme_guard", "observer": "acme_costs"}
SOURCES = {name: package_files(name, kind)[f"{name}.py"] for kind, name in NAMES.items()}
SOURCES["openai_chat__acme_text"] = TRANSLATOR
SLOPPY_DECODER = """
from gateway.contract import sse_api


def decoder(request, target, head):
    return Sloppy(lambda name, payload: "message", is_end)


class Sloppy(sse_api.SseDecoder):
    def frames(self, data):
        return super().frames(data.replace(b"\\r", b"").removeprefix(b"\\n"))
"""
STRICT_SEARCH = """
from gateway.contract.flag import DiscoveredModel, ModelSearch


def discover_models(host):
    return ModelSearch(pages())


def pages():
    reply = yield UpstreamRequest("GET", "/v1/models", b"")
    return [DiscoveredModel(str(entry)) for entry in json_api.json_object(reply.body)["data"]]

"""
NEVER_CUT = """
from gateway.contract import sse_api


def decoder(request, target, head):
    return Lenient(lambda name, payload: "message", is_end)


class Lenient(sse_api.SseDecoder):
    def close(self):
        return ()
"""
SHARED = """
from gateway.contract import sse_api


def decoder(request, target, head):
    return Shared(lambda name, payload: "message", is_end)


class Shared(sse_api.SseDecoder):
    framings = []

    def frames(self, data):
        if not self.framings:
            self.framings.append(self.framing)
        self.framing = self.framings[0]
        return super().frames(data)
"""
QUIET_FAILURE = """
from gateway.contract import sse_api


def encoder(request):
    return Quiet()


class Quiet(sse_api.SseEncoder):
    def fail(self, problem):
        return b"data: [DONE]\\n\\n"
"""
FINAL_PING = """
from gateway.contract import sse_api


def encoder(request):
    return Final()


class Final(sse_api.SseEncoder):
    def ping(self):
        return b"data: [DONE]\\n\\n"
"""
NO_PROBLEM = """

def problem(head, body):
    return None
"""
LOCAL_OPTIONS = """

def made():
    class Options(Settings):
        version: str = "1"

    return Options


Options = made()
"""
BY_THE_TEXT = """
places_of = places


def places(event):
    return () if b"Hellox" in event.payload else (*places_of(event),)
"""
FLAGS = {
    # the rule that is broken: (text, its replacement, a part of the report)
    "the request to the provider has the provider's name of the model": (
        'spliced({"model": orjson.dumps(target.model)})', "body", "build left out target.model"
    ),
    "a damaged request is sent or refused": (
        "headers = {", 'request.top.decode("prompt").strip()\n    headers = {', "/prompt is missing"
    ),
    "chunks of any size give the same events": ("def samples", f"{SLOPPY_DECODER}\n\ndef samples", "| b'\\n"),
    "two streams at the same time do not change one another": (
        "def samples", f"{SHARED}\n\ndef samples", "of two streams at the same time"
    ),
    "a stream that is cut before its last event is an error": (
        "def samples", f"{NEVER_CUT}\n\ndef samples", "cut after 0: b''"
    ),
    "a stream and the whole reply have the same facts": (
        "self._read(json_api.json_object(body))", "pass", "whole Facts"
    ),
    "the tokens of a stream are reported": ("reported = True", "reported = False", "no tokens were reported"),
    "the text of a stream is counted, so that a cut stream has a price": (
        "yield Place", "return\n        yield Place", "output_bytes is 0 for every event"
    ),
    "an odd event is read as far as possible": (
        'if isinstance(stop := data.get("stop"), str):\n            self._facts.stop = stop',
        'if stop := data.get("stop"):\n            self._facts.stop = stop.strip()',
        "event 1",
    ),
    "an odd reply is read as far as possible": ("json_api.json_object(body)", "orjson.loads(body)", "body b''"),
    "an error in a stream is an error for the flag's own decoder": (
        "def samples", f"{QUIET_FAILURE}\n\ndef samples", "data: [DONE]"
    ),
    "a ping changes nothing in the reply": ("def samples", f"{FINAL_PING}\n\ndef samples", "after the ping"),
    "filters see the text of a request": (
        "if event.kind == REQUEST and", "if False and", 'yields no Place with text for the kind "request"'
    ),
    "filters see the text of a whole reply": (
        "elif event.kind != REQUEST and", "elif event.kind == 'message' and", 'with text for the kind "reply"'
    ),
    "filters see the text of a stream": (
        "elif event.kind != REQUEST and", "elif event.kind == 'reply' and", "with text for a stream"
    ),
    "filters see the same texts in a stream and in the whole reply": (
        'stream=b\'data: {"text": "Hello"}', 'stream=b\'data: {"text": "Hel"}', "{'text': 'Hel'}, whole {'text': 'Hello'}"
    ),
    "the places of an event do not depend on its text, if they are a tuple": (
        "def samples", f"{BY_THE_TEXT}\n\ndef samples", "the places are () and (Place("
    ),
    "the parts of an odd request that are not billed as text are found": (
        "def samples",
        "def billed_parts(body):\n    return [body['prompt'].strip() and 1][:0]\n\n\ndef samples",
        "billed_parts",
    ),
    "an odd list of models is read or refused": (
        "def samples", f"{STRICT_SEARCH}\n\ndef samples", "discover_models KeyError: 'data'"
    ),
    "dialect_for returns one of the flag's dialects": (
        "def samples", "def dialect_for(caps):\n    return 'acme'\n\n\ndef samples", "'acme' is not in `dialects`"
    ),
    "the configuration can set the options": (
        'version: str = Field(default="1"', 'version: tuple[str, ...] = Field(default=("1",)', "version is refused: Input should be a valid tuple"
    ),
    "the options reach worker processes": (
        "def samples", f"{LOCAL_OPTIONS}\n\ndef samples", "they cannot be sent to a worker process"
    ),
    "every error status of a provider is a problem that clients are told": (
        "def samples", f"{NO_PROBLEM}\n\ndef samples", "status 400, body b''"
    ),
}  # fmt: skip
TRANSLATORS = {
    "every member of a request counts or is reported as dropped": (
        'drop(f"/{name}")', "pass", "without /user the provider gets the same request"
    ),
    "a damaged request is translated or refused": (
        "if not isinstance(messages, list) or not messages:", "if not messages:", "/messages is"
    ),
    "a streaming client sees the tokens that are charged": (
        "if reply.usage:", "if False:", "the client is shown {'input': 0, 'output': 0, 'tools': 0}"
    ),
    "a client of a whole reply sees the tokens that are charged": (
        '"choices": [choice], "usage": reply.usage}', '"choices": [choice]}', "is charged"
    ),
    "a damaged stream is read or fails as the provider's": (
        "json_api.event_object(upstream)", "upstream.data", "event 0 (message)"
    ),
    "a damaged reply is read or fails as the provider's": (
        "json_api.json_object(body)", "json.loads(body)", "body b''"
    ),
}  # fmt: skip
FILTERS = {
    "text in pieces of any size becomes the same text": (
        "len(self.word) - 1, last",
        "0, last",
        "in one piece the client gets",
    ),
    "the arguments of tool calls stay JSON": ('"***"', "'\"'", "the arguments of a call are no JSON any more"),
    "a request of every format is let pass, changed, answered or blocked": (
        "if any(self.word",
        "if any(self.nothing",
        "has no attribute 'nothing'",
    ),
    "a call of every format is opened or not seen": (
        "return Guard(settings.word)",
        "return 7",
        "filter.open returned int",
    ),
}
OBSERVERS = {
    "a record of every kind of call is taken": (
        "price = ",
        'record["cost_usd"] + 1\n    price = ',
        "a call without tokens, a cost and a first event",
    ),
    "an event of every kind is taken": (
        "def seen(",
        'def seen_event(event):\n    event["bucket"]\n\n\ndef seen(',
        "an event of a newer gateway",
    ),
}
MISTAKES = [
    pytest.param(plugin, rule, *change, id=f"{plugin}-{rule.replace(' ', '-')}")
    for plugin, mistakes in (
        ("acme_text", FLAGS),
        ("openai_chat__acme_text", TRANSLATORS),
        ("acme_guard", FILTERS),
        ("acme_costs", OBSERVERS),
    )
    for rule, change in mistakes.items()
]


def report(folder, plugin, source):
    """Write all plugins to a folder, with `source` as the code of the plugin `plugin`. Return the report about this
    plugin.
    """
    for name, text in {**SOURCES, plugin: source}.items():
        (folder / f"{name}.py").write_text(text)
    return check(plugin, discover(folder))


@pytest.mark.parametrize(("plugin", "rule", "old", "new", "shown"), MISTAKES)
def test_a_mistake_breaks_its_law_and_is_shown(tmp_path, plugin, rule, old, new, shown):
    source = SOURCES[plugin]
    if "/user" in shown:
        source = source.replace('"messages": [{"role"', '"user": "u", "messages": [{"role"')
    assert old in source
    broken = report(tmp_path, plugin, source.replace(old, new))
    results = {result.rule: result for result in broken.results}
    assert not broken.holds
    assert not results[rule].holds, str(broken)
    assert shown in " ".join([results[rule].reason, *results[rule].inputs])


@pytest.mark.parametrize("plugin", SOURCES)
def test_the_plugins_without_a_mistake_hold(tmp_path, plugin):
    assert report(tmp_path, plugin, SOURCES[plugin]).holds


@pytest.mark.parametrize(
    ("plugin", "old", "new", "message"),
    [
        ("acme_text", "def samples", "def _samples", "acme_text: its module has no function `samples`"),
        ("openai_chat__acme_text", "def samples", "def _samples", "its module has no function `samples`"),
        ("acme_guard", "def samples", "def _samples", "its settings have no defaults; return a list of Settings"),
        (
            "acme_text",
            "return [\n        Sample",
            "return [7,\n        Sample",
            "samples must return a list of gateway.con",
        ),
        (
            "acme_text",
            "return [\n        Sample",
            "return 1 / 0, [\n        Sample",
            "samples ZeroDivisionError: division",
        ),
    ],
)
def test_missing_or_wrong_samples_are_told(tmp_path, plugin, old, new, message):
    assert old in SOURCES[plugin]
    with pytest.raises(NotChecked) as refusal:
        report(tmp_path, plugin, SOURCES[plugin].replace(old, new))
    assert message in str(refusal.value)


def test_an_unknown_plugin_may_be_in_a_folder(tmp_path):
    with pytest.raises(NotChecked) as refusal:
        check("acme_text", discover())
    assert str(refusal.value).startswith(
        "there is no plugin acme_text; if it is a file in a folder, name the folder with --plugins DIR; there are anth"
    )


def test_a_broken_plugin_of_a_package_is_told_with_its_mistake():
    mistake = Mistake("acme_text", "api = 7; write api = 1, the version of this gateway", "acme_text.py:5")
    broken = replace(discover(), skipped=(Skipped("acme_text", "acme 2.1", (mistake,)),))
    with pytest.raises(NotChecked) as refusal:
        check("acme_text", broken)
    assert str(refusal.value).startswith("acme_text is left out, because it is broken: acme 2.1: acme_text.py:5: ")


def test_a_part_that_no_sample_has_is_asked_for(tmp_path):
    source = (
        SOURCES["acme_text"]
        .replace("stream=b'", "name='x' + '")
        .replace("            b'", "            '")
        .replace('b"data: [DONE]', '"data: [DONE]')
    )
    lacking = report(tmp_path, "acme_text", source)
    reasons = [result.reason for result in lacking.results if not result.holds]
    assert reasons[0] == "not tried: no sample has a stream; give it in `samples` (gateway.contract.samples)"
    assert set(reasons[1:]) == {'not tried: the cause is that of "chunks of any size give the same events"'}


CAUSES = {
    # a change of the scaffold by which several laws fail: (text, its replacement, the rule that names it, the reason)
    "a stream without [DONE]": (
        '            b"data: [DONE]\\n\\n",\n',
        "",
        "chunks of any size give the same events",
        "no event was the last one, after which `done` of the decoder is true; the default `decoder` waits for [DONE]",
    ),
    "a stream of JSON lines": (
        "stream=b'data: {",
        "stream=b'{\"lines\": 1}\\n' or b'data: {",
        "chunks of any size give the same events",
        "the default `decoder` reads server-sent events; a stream of another framing needs its own `decoder`",
    ),
    "a build that fails": (
        "headers = {",
        'raise KeyError("x")\n    headers = {',
        "the request to the provider has the provider's name of the model",
        "build KeyError: 'x'",
    ),
    "a meter that fails": (
        "        if not is_end(event):",
        '        raise KeyError("y")\n        if not is_end(event):',
        "damaged bytes of a stream are events or an error",
        "meter.feed KeyError: 'y'",
    ),
}


@pytest.mark.parametrize(("old", "new", "rule", "reason"), CAUSES.values(), ids=CAUSES)
def test_a_cause_that_breaks_many_laws_is_told_once(tmp_path, old, new, rule, reason):
    assert old in SOURCES["acme_text"]
    broken = report(tmp_path, "acme_text", SOURCES["acme_text"].replace(old, new))
    tried = [result for result in broken.results if result.is_tried and not result.holds]
    others = {result.reason for result in broken.results if not result.is_tried}
    assert [result.rule for result in tried] == [rule], str(broken)
    assert reason in tried[0].reason
    assert others == {f'not tried: the cause is that of "{rule}"'}
    count = sum(not result.holds for result in broken.results)
    assert str(broken).startswith(f"flag acme_text: {len(broken.results)} laws, 1 broken, {count - 1} not tried\n")


def test_a_place_without_a_text_is_told(tmp_path):
    source = SOURCES["acme_text"].replace('yield Place(("text",))', 'yield Place(("texts", 0))')
    without = report(tmp_path, "acme_text", source)
    reasons = [result.reason for result in without.results if result.rule == "filters see the text of a whole reply"]
    assert reasons == ["there is no text at ('texts', 0)"]


def test_a_flag_without_places_is_told_that_no_filter_reads_it(tmp_path):
    source = SOURCES["acme_text"].replace("def places", "def _places")
    source = source.replace("def samples", "def output_bytes(event):\n    return len(event.payload)\n\n\ndef samples")
    without = report(tmp_path, "acme_text", source)
    assert without.holds, str(without)
    rules = {result.rule for result in without.results if result.reason == f"not tried: {NO_PLACES}"}
    assert rules == {law.rule for law in PLACE_LAWS}


LEAKY = """
import re

from gateway.contract.filter import Settings
from gateway.contract.samples import FilterSample

api = 1


def open(call, settings):
    return Guard()


class Guard:
    def text(self, kind, piece, last):
        return re.sub("[0-9]{4}-[0-9]{4}", "***", piece)


def samples():
    return [SAMPLE]
"""


@pytest.mark.parametrize(
    ("sample", "holds", "reason"),
    [
        ("Settings()", False, "not tried: no text was changed; give texts in `samples`"),
        ("FilterSample(Settings())", False, "not tried: no text was changed; give texts in `samples`"),
        ("FilterSample(Settings(), texts=('my 1234-5678',))", False, "in one piece the client gets 'my ***'"),
        ("FilterSample(Settings(), texts=('no number',))", True, "not tried: no text was changed, and none of the"),
    ],
)
def test_a_guard_that_leaks_between_pieces_needs_texts(tmp_path, sample, holds, reason):
    leaky = report(tmp_path, "acme_guard", LEAKY.replace("SAMPLE", sample))
    result = next(each for each in leaky.results if each.rule == "text in pieces of any size becomes the same text")
    assert (result.holds, result.reason.startswith(reason)) == (holds, True), str(leaky)


def test_a_text_of_the_samples_that_a_guard_lets_pass_is_told(tmp_path):
    source = LEAKY.replace("SAMPLE", "FilterSample(Settings(), texts=('my 1234-5678', 'my 1234-567'))")
    source = source.replace("import Settings", "import Hold, Settings").replace(
        "        return re", "        if not last:\n            return Hold('', piece)\n        return re"
    )
    passing = report(tmp_path, "acme_guard", source)
    broken = [(each.reason, each.inputs) for each in passing.results if not each.holds]
    assert broken == [
        ("a text of `samples` is neither changed nor blocked", ("text: 'my 1234-567'", "settings: Settings()"))
    ]


@pytest.mark.parametrize("leaks", ["text", "thinking", "arguments"])
def test_a_leak_in_one_kind_of_text_is_enough(tmp_path, leaks):
    whole = f"        if kind != {leaks!r} and not last:\n            return Hold('', piece)\n"
    source = LEAKY.replace("SAMPLE", "FilterSample(Settings(), texts=('my 1234-5678',))")
    source = source.replace("import Settings", "import Hold, Settings").replace(
        "        return re", f"{whole}        return re"
    )
    leaky = report(tmp_path, "acme_guard", source)
    (result,) = [each for each in leaky.results if not each.holds]
    assert f"pieces of {leaks}: " in result.inputs[0]


def test_a_guard_without_the_method_text_needs_no_texts(tmp_path):
    source = LEAKY.replace("SAMPLE", "Settings()").replace("def text(self, kind, piece, last)", "def headers(self)")
    prompts_only = report(tmp_path, "acme_guard", source.replace("return re.sub(", "return {} and re.sub("))
    assert prompts_only.holds, str(prompts_only)


def test_the_fewest_borders_are_those_that_matter():
    data = bytes(range(100))
    borders = fewest_borders(data, range(1, 100), lambda chunks: any(chunk.endswith(b"\x2a") for chunk in chunks[:-1]))
    assert divided(data, borders) == [data[:43], data[43:]]


def test_damage_begins_with_the_whole_and_reaches_every_place():
    value = {"a": [1, {"b": "x"}], "c": None}
    damages = dict(damaged(value))
    assert len(damages) == len(ODD) + len(list(pointers(value))) * (len(ODD) + 1)
    assert damages["/a/1/b is missing"] == {"a": [1, {}], "c": None}
    assert value == {"a": [1, {"b": "x"}], "c": None}
    assert len(list(damaged(value, 10))) <= 10


@pytest.mark.parametrize(
    ("pattern", "is_matched"), [("/a/1/b", True), ("/a", True), ("/a/*/b", True), ("/a/1/b/c", False), ("/b", False)]
)
def test_a_neutral_place_covers_what_is_in_it(pattern, is_matched):
    assert matches(("a", 1, "b"), [pattern]) is is_matched
