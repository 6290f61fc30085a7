"""Tests that a plugin's failure affects only the current call. The call gets an error in the client's format, one
record and one log line, and no reservation is left.

Every hook is tried with every fault, for streamed and other replies, on every kind of conversion.
"""

import json
import re
from collections import defaultdict
from itertools import product

import aiohttp
import pytest

from tests.helpers import plugin_faults
from tests.helpers.gateway import CAP, gate
from tests.helpers.plugin_faults import FAULTS, REFUSAL, STREAM, UNUSUAL, USUAL, WAYS, WHOLE
from tests.helpers.scripted import scripted

GRANTS = [
    {
        "src": ["*"],
        "app": {CAP: [{"role": "admin"}, {"models": "**", "quotas": [{"bucket": "team"}]}, {"read_metrics": True}]},
    }
]
QUOTAS = {"team": {"capacity": "$100", "rate": "$100/day"}}
CLIENTS = ("parse", "limit", "steps", "reply_headers", "error", "encoder")
"""Hooks in the plugin of the client's API format. The tests make each of them fail."""
PROVIDERS = (
    "dialect_for", "steps", "build", "retry", "problem", "meter", "meter.facts", "decoder",
)  # fmt: skip
"""Hooks in the plugin of the provider's API format. The tests make each of them fail."""
WHOLE_HOOKS = {
    "client": ("encoder.whole",),
    "provider": ("meter.whole", "decoder.whole"),
    "translator": ("translation.whole",),
}
STREAM_HOOKS = {
    "client": ("encoder.feed", "encoder.ping", "encoder.close", "encoder.fail"),
    "provider": ("meter.feed", "output_bytes", "decoder.feed", "decoder.close"),
    "translator": ("translation.feed", "translation.close"),
}
NONE_ALLOWED = {"retry", "limit", "problem"}
"""Hooks that may return None."""
UNCHECKED = {"meter.feed", "meter.whole"}
"""Hooks whose result the gateway does not use."""
EACH_KIND = {
    "build", "steps", "error", "meter.facts", "meter.feed", "output_bytes", "decoder.feed", "encoder.feed",
    "translation.feed",
}  # fmt: skip
"""Hooks with which unusual faults are tried. Together they cover each way in which the gateway calls a hook."""
UNCALLED = {
    ("native", "whole"): {"encoder", "encoder.whole"},
    ("native", "stream"): {"encoder.feed", "encoder.close"},
}
"""Hooks that are not called. The key is the kind of conversion and the mode of the reply."""


def hooks(way, mode):
    """Return the hooks that are called for a kind of conversion and mode of reply, as pairs of plugin and hook."""
    more = STREAM_HOOKS if mode == "stream" else WHOLE_HOOKS
    client = [("acme", hook) for hook in (*CLIENTS, *more["client"]) if hook not in UNCALLED.get((way, mode), ())]
    provider = [(WAYS[way], hook) for hook in (*PROVIDERS, *more["provider"])]
    translator = (
        [("acme__acme_upstream", hook) for hook in ("open", *more["translator"])] if way == "translated" else []
    )
    return list(dict.fromkeys([*client, *provider, *translator]))


def fails(hook, fault):
    """Return whether a hook with this fault fails. For example, a hook that may return None does not fail by returning
    None.
    """
    if fault in {"type", "coroutine", "text", "none", "generated"} and hook in UNCHECKED:
        return False
    if fault == "none" and hook in NONE_ALLOWED:
        return False
    return not (fault == "text" and hook == "dialect_for")


class Answer:
    """The reply to a client, or the part of it that the client has received."""

    def __init__(self, response):
        self.id, self.status, self.body, self.complete = response.headers["x-request-id"], response.status, b"", True

    def error(self):
        """Return the error in the body or in the last event of the reply, or None if there is none."""
        if self.status >= 400:
            return json.loads(self.body)["error"]
        last = self.body.strip().rpartition(b"\n\n")[2] or self.body.strip()
        return json.loads(last.removeprefix(b"data: ")).get("error") if last.startswith(b'data: {"error') else None


async def ask(gw, way, mode):
    body = {"model": way, "stream": mode == "stream", "messages": [{"role": "user", "content": "hello"}]}
    async with gw.session.post(f"{gw.url}/acme/chat", json=body) as response:
        answer = Answer(response)
        try:
            async for data in response.content.iter_any():
                answer.body += data
        except aiohttp.ClientPayloadError:
            answer.complete = False
        return answer


def script(provider, hook, mode):
    if hook in {"retry", "problem"}:
        provider.answer(REFUSAL, status=400)
    elif hook == "error":
        provider.answer(b"{")
    elif hook == "encoder.fail":
        provider.answer(STREAM[:150].rpartition(b"\n\n")[0] + b"\n\n", "text/event-stream")
    elif mode == "stream":
        provider.answer(STREAM, "text/event-stream")
    else:
        provider.answer(WHOLE)


def fault_of(way, mode, where, answer, complete):
    """Return what is wrong with the reply to a call whose hook failed, or "" if nothing is. `where` is the plugin and
    its hook.
    """
    plugin, hook = where
    error = answer.error()
    if b"HTTP/1.1" in answer.body:
        return "a second head"
    if hook == "encoder.fail":
        return "a stream that was cut and looks complete" if answer.complete else ""
    if hook == "meter.facts" and (way, mode) == ("native", "stream"):
        return "" if answer.body == complete else "a complete reply was changed"
    if error is None or not answer.complete:
        return "no error"
    return "" if hook == "error" or plugin in error["message"] else "an error that does not name the plugin"


class Cell:
    """The results of one test: the plugin and hook that failed, the fault, the reply to the failed call, and the reply
    to the next call.
    """

    def __init__(self, where, fault, answer, following):
        self.where, self.fault, self.answer, self.following = where, fault, answer, following

    def faults(self, way, mode, records, lines):
        """Yield what is wrong with the reply to the failed call, the reply to the next call, the record or the log."""
        hook = self.where[1]
        yield fault_of(way, mode, self.where, self.answer, self.following.body)
        good = self.following
        if (good.status, good.complete, good.error()) != (200, True, None) or b"hello" not in good.body:
            yield f"the next call gave {good.status} {good.body}"
        (record,) = records[self.answer.id]
        code = "upstream" if hook in {"error", "encoder.fail"} else "plugin"
        if (record["outcome"], record["error"]) != ("failed", code):
            yield f"the record says {record['outcome']} {record['error']}"
        if [(line["plugin"], line["hook"]) for line in lines[self.answer.id]] != [self.where]:
            yield f"the log says {lines[self.answer.id]}"
        elif (
            not re.fullmatch(r"/.*\.py:[0-9]+", lines[self.answer.id][0]["at"]) or not lines[self.answer.id][0]["cause"]
        ):
            yield f"the log has no place or no cause: {lines[self.answer.id]}"


def faults_of(way, mode):
    """Return the tests for a kind of conversion and a mode of the reply. A test is a pair: the plugin with its hook,
    and the fault to try.

    Unusual faults are tried only in translated streams, with the hooks in `EACH_KIND`.
    """
    usual = product(hooks(way, mode), USUAL)
    unusual = product(hooks(way, mode), UNUSUAL) if (way, mode) == ("translated", "stream") else ()
    of_each_kind = [(where, fault) for where, fault in unusual if where[1] in EACH_KIND]
    return [(where, fault) for where, fault in (*usual, *of_each_kind) if fails(where[1], fault)]


async def tried(gw, provider, way, mode):
    """Make two calls for each test of `faults_of`: one with the hook's fault, and one without. Return the results
    (`Cell`).
    """
    cells = []
    for where, fault in faults_of(way, mode):
        script(provider, where[1], mode)
        FAULTS.set(*where, (USUAL | UNUSUAL)[fault])
        gw.running.gateway.runtime.plans.cache_clear()  # otherwise `dialect_for` is called only for the first call
        answer = await ask(gw, way, mode)
        assert FAULTS.failed, f"{where} was not called"
        FAULTS.clear()
        script(provider, "", mode)
        cells.append(Cell(where, fault, answer, await ask(gw, way, mode)))
        assert not any(level.reserved for level in gw.running.gateway.quotas.levels()), (where, fault)
    return cells


@pytest.mark.parametrize("mode", ["whole", "stream"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_failing_hook_costs_its_own_call(tmp_path, way, mode):
    plugins = plugin_faults.write(tmp_path / "plugins")
    async with scripted() as provider:
        served = plugin_faults.providers(provider.url)
        async with gate(tmp_path, served, plugins=plugins, grants=GRANTS, more={"quotas": QUOTAS}) as gw:
            try:
                cells = await tried(gw, provider, way, mode)
            finally:
                FAULTS.clear()
            records, lines = defaultdict(list), defaultdict(list)
            for record in await gw.calls(2 * len(cells)):
                records[record["id"]].append(record)
            for line in gw.lines.entries("plugin.failed"):
                lines[line["request_id"]].append(line)
            metrics = await (await gw.get("/metrics")).text()
    wrong = [
        f"{cell.where} {cell.fault}: {text}"
        for cell in cells
        for text in cell.faults(way, mode, records, lines)
        if text
    ]
    assert wrong == []
    assert len(cells) > 50
    failures = [line for line in metrics.splitlines() if line.startswith("irisgate_plugin_failures_total{")]
    assert sum(float(line.rpartition(" ")[2]) for line in failures) == len(cells)
