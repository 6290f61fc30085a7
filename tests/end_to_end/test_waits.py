"""Tests of the seconds that a provider asks clients to wait before a retry. On every conversion, the client's SDK must
be able to read them from the reply.

Sources: the `_parse_retry_after_header` and `_should_retry` of OpenAI's and Anthropic's Python SDKs;
`botocore.retries.standard` for `x-amz-retry-after`; RFC 9110, 10.2.3.
"""

import anthropic
import openai
import pytest
from aiohttp import web

from tests.helpers.gateway import bedrock, gate
from tests.helpers.providers import provider
from tests.helpers.wires import PROVIDERS, wires

DATE = "Sat, 28 Nov 2026 10:00:00 GMT"
WAITS = {
    # headers of the provider: (seconds that every client reads, seconds that OpenAI's and Anthropic's SDKs read)
    "seconds": ({"retry-after": "7"}, "7", 7.0),
    "part of a second": ({"retry-after": "1.5"}, "2", 1.5),
    "milliseconds": ({"retry-after-ms": "2500"}, "3", 2.5),
    "both": ({"retry-after-ms": "2500", "retry-after": "9"}, "3", 2.5),
    "milliseconds of AWS": ({"x-amz-retry-after": "2500"}, "3", 2.5),
    "date": ({"retry-after": "Sat, 28 Nov 2026 10:00:20 GMT", "date": DATE}, "20", 20.0),
    "old date form": ({"retry-after": "Saturday, 28-Nov-26 10:00:20 GMT", "date": DATE}, "20", 20.0),
    "date that has passed": ({"retry-after": "Sat, 28 Nov 2026 09:00:00 GMT", "date": DATE}, "1", 1.0),
    "neither": ({"retry-after": "soon"}, None, None),
}


OF_AWS = ("bedrock_converse", "bedrock_model_invoke")
"""The API formats whose clients read `x-amz-retry-after`."""


@pytest.fixture(scope="module")
def sdks():
    with openai.OpenAI(api_key="-") as first, anthropic.Anthropic(api_key="-") as second:
        yield first, second


def sdk_seconds(sdks, headers):
    """Return the number of seconds to wait that the `sdks` read from a reply's headers. Check that all of them read the
    same number.
    """
    read = {name.lower(): value for name, value in headers.items()}
    (seconds,) = {client._parse_retry_after_header(read) for client in sdks}
    return seconds


class Provider:
    """A provider that refuses every request with the headers that a test sets."""

    async def serve(self, _request):
        return web.json_response({"error": {"message": "slow down"}}, status=429, headers=self.headers)


@pytest.fixture
async def refusing():
    refuser = Provider()
    async with provider(refuser.serve) as refuser.url:
        yield refuser


@wires()
async def test_every_client_learns_when_to_try_again(wire, refusing, sdks, tmp_path):
    model = PROVIDERS[wire.provider][1]
    native = wire.client == wire.provider
    async with gate(tmp_path, {"p": bedrock(refusing.url, models=[model], flags=[wire.provider])}) as gw:
        body = wire.say.body(wire.say.user(wire.say.text("Hi")))
        body = {**body, "model": model} if "model" in body else body
        for case, (headers, whole, exact) in WAITS.items():
            for should in (None, "true", "false"):
                refusing.headers = headers if should is None else {**headers, "x-should-retry": should}
                reply = await gw.post(wire.say.path(model, stream=False), body)
                assert reply.status == 429
                assert reply.headers.get("x-should-retry") == should
                if not native:
                    assert (case, reply.headers.get("retry-after")) == (case, whole)
                if wire.client in OF_AWS and not (native and "AWS" not in case):
                    milliseconds = None if exact is None else str(int(exact * 1000))
                    assert (case, reply.headers.get("x-amz-retry-after")) == (case, milliseconds)
                # the SDKs compare a date with their own clock, and do not read AWS's header
                if exact is not None and not (native and ("date" in case or "AWS" in case)):
                    assert (case, sdk_seconds(sdks, dict(reply.headers))) == (case, exact)
