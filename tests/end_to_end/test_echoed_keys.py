"""Tests of providers that repeat the gateway's key. The gateway removes the key on every conversion, in every place of
a reply.
"""

import base64
import json
from dataclasses import replace
from urllib.parse import quote

import pytest
from aiohttp import web

from gateway.testkit import scenarios
from gateway.testkit.render.dialects import rendered
from gateway.testkit.scenarios import Canned, Tokens
from tests.helpers.gateway import KEY, bedrock, gate
from tests.helpers.providers import provider
from tests.helpers.samples_of_tables import sample_of_pairs
from tests.helpers.wires import PROVIDERS, WIRES, framed, line

FORMS = {
    "as it is": KEY,
    "escaped": "".join(f"\\u{ord(each):04x}" for each in KEY),
    "percent": "".join(f"%{ord(each):02X}" for each in KEY),
    "base64": base64.b64encode(f"user:{KEY}".encode()).decode(),
    "in a URL": f"https://x/?key={quote(KEY)}",
}
SIGNS = [KEY, KEY[8:], *(form[-24:] for form in FORMS.values())]


def hello(wire):
    return wire.say.body(wire.say.user(wire.say.text("Hi")))


def leaks(*texts):
    """Return the forms of the key that `texts` contain, also inside nested JSON and base64."""
    found = []
    for data in texts:
        decoded = [data]
        for piece in data.split(b'"'):
            try:
                decoded.append(base64.b64decode(piece, validate=True))
            except ValueError:
                continue
        for form in decoded:
            found += [sign for sign in SIGNS if sign.encode() in form or sign.encode() in form.replace(b"\\\\", b"\\")]
    return found


def scripts(wire, form):
    """Yield a provider's replies that contain the gateway's key in the form `FORMS[form]`, for example escaped.

    Each item is a pair: whether the call is streamed, and the scenario of the simulated provider.
    """
    said = FORMS[form]
    text = "k" if form == "escaped" else f"The key is {said}, so."
    events, whole = rendered(wire.upstream, Canned((text,), tokens=Tokens(7, 5)))
    data, content_type = framed(wire.provider, events)
    body = json.dumps(whole).encode()
    if form == "escaped":
        body = body.replace(b'"k"', f'"{said}"'.encode())
    error = b'{"error": {"message": "no %b", "type": "server_error", "code": "%b"}}' % ((said.encode(),) * 2)
    page = b"<html><title>no %b</title></html>" % said.encode()
    yield False, scenarios.raw(error, status=401)
    yield False, scenarios.raw(error, status=500)
    yield True, scenarios.raw(error, status=429)
    yield False, scenarios.raw(b'{"message": "no %b"}' % said.encode(), status=400)
    yield False, scenarios.raw(error)
    yield True, scenarios.raw(error)
    yield False, scenarios.raw(page, "text/html")
    yield False, scenarios.raw(body)
    yield True, scenarios.raw(data, content_type)
    yield True, replace(scenarios.error_in_stream("ThrottlingException", message=f"no {said}"))


FORMS_OF_WIRES = [
    pytest.param(wire, form, id=f"{wire.client}-{wire.provider}-{form}")
    for wire, form in sample_of_pairs(WIRES, FORMS, 3)
]


@pytest.mark.parametrize(("wire", "form"), FORMS_OF_WIRES)
async def test_a_key_in_any_reply_reaches_neither_client_nor_record(wire, form, tmp_path):
    async with line(wire, tmp_path) as opened:
        sent = list(scripts(wire, form))
        for number, (stream, scenario) in enumerate(sent):
            opened.simulated.script(scenario)
            reply = await opened.post(hello(wire), stream=stream)
            assert leaks(reply.body, str(reply.headers).encode()) == [], (number, reply.body)
        await opened.gw.calls(len(sent))
        await opened.gw.log_is_written()
        lines = [entry for entry in opened.gw.lines.data.splitlines() if b'"http.' not in entry]
        assert leaks(*lines) == []
        await opened.gw.running.gateway.follower.flush()
        for record in await opened.gw.calls(len(sent)):
            stored = await opened.gw.get(f"/api/calls/{record['id']}")
            assert leaks(stored.body) == []


NATIVE = [wire for wire in WIRES if wire.client == wire.provider]


@pytest.mark.parametrize("wire", NATIVE, ids=[wire.provider for wire in NATIVE])
@pytest.mark.parametrize("status", [200, 400, 503])
async def test_a_key_in_a_header_is_removed(wire, status, tmp_path):
    _, whole = rendered(wire.upstream, Canned(("Hi",), tokens=Tokens(7, 5)))

    async def serve(_request):
        names = ("x-amzn-requestid", "x-amzn-trace", "openai-processing-ms", "request-id", "anthropic-x", "retry-after")
        headers = dict.fromkeys(names, f"id-{KEY}")
        return web.json_response(
            whole if status == 200 else {"error": {"message": "no"}}, status=status, headers=headers
        )

    model = PROVIDERS[wire.provider][1]
    async with (
        provider(serve) as url,
        gate(tmp_path, {wire.provider: bedrock(url, models=[model], flags=[wire.provider])}) as gw,
    ):
        request = hello(wire)
        request = {**request, "model": model} if "model" in request else request
        reply = await gw.post(wire.say.path(model, stream=False), request)
        assert (reply.status, leaks(str(reply.headers).encode())) == (status, [])
        (record,) = await gw.calls()
    assert record["upstream_request_id"] == "id-[redacted]"
