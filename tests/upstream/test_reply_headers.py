"""Tests of headers of a provider's reply: clients get the headers that they use, but none about the provider's
account.
"""

import pytest
from aiohttp import web

from gateway.upstream.reply_headers import forwarded
from tests.end_to_end.test_defences import provider
from tests.end_to_end.test_odd_requests import NATIVE, REPLIES
from tests.helpers.authors_mistakes import FLAG
from tests.helpers.gateway import HAIKU, NOVA, bedrock, gate

ACCOUNT = {
    "openai-organization": "secret-org", "openai-project": "secret-project", "anthropic-organization-id": "secret-org",
    "x-amzn-account": "secret", "x-amzn-bedrock-project": "secret", "x-ms-region": "secret", "set-cookie": "secret=1",
    "openai-secret": "secret", "anthropic-workspace-id": "secret-workspace", "x-ratelimit-limit-secret-org": "1",
    "strict-transport-security": "max-age=1; secret", "x-openai-proxy-wasm": "secret", "via": "secret",
}  # fmt: skip
USED = {
    "openai-processing-ms": "12", "openai-version": "2020-10-01", "x-ratelimit-remaining-tokens": "5",
    "x-ratelimit-reset-requests": "1s", "anthropic-ratelimit-input-tokens-remaining": "7", "request-id": "req_1",
    "anthropic-ratelimit-unified-5h-utilization": "0.5", "anthropic-ratelimit-unified-status": "allowed",
    "x-should-retry": "false", "retry-after-ms": "500", "cf-ray": "abc", "x-amzn-requestid": "r-1",
    "x-amzn-bedrock-input-token-count": "5", "x-amzn-bedrock-service-tier": "flex",
}  # fmt: skip


def test_only_named_headers_are_passed_on():
    assert forwarded({**ACCOUNT, **USED}) == USED
    assert forwarded({"cf-ray": "a\x01"}) == {}


@pytest.mark.parametrize("status", [200, 400])
async def test_a_flag_names_the_headers_of_its_providers_that_clients_get(tmp_path, status):
    (folder := tmp_path / "plugins").mkdir()
    (folder / "acme.py").write_text(f'{FLAG}\n\npassed_headers = ("acme-request-id",)\n')
    sent = {"acme-request-id": "r-1", "acme-account": "secret", "request-id": "r-2"}

    async def answering(_request):
        return web.json_response({}, status=status, headers=sent)

    async with provider(answering) as url:
        entry = {"baseurl": url, "apikey": "k", "models": ["m"], "compatibility": {"acme": True}}
        async with gate(tmp_path, {"p": entry}, plugins=folder) as gw:
            reply = await gw.post("/acme/v1/text", {"model": "m"})
            assert (reply.status, reply.headers["acme-request-id"]) == (status, "r-1")
            assert "acme-account" not in reply.headers


@pytest.mark.parametrize("status", [200, 400, 429])
@pytest.mark.parametrize("flag", NATIVE)
async def test_no_caller_sees_the_providers_account(tmp_path, flag, status):
    async def answering(_request):
        return web.json_response(
            REPLIES[flag] if status == 200 else {"message": "no"}, status=status, headers={**ACCOUNT, **USED}
        )

    path, body = NATIVE[flag]
    async with (
        provider(answering) as url,
        gate(tmp_path, {"b": bedrock(url, flags=[flag], models=["m", NOVA, HAIKU])}) as gw,
    ):
        reply = await gw.post(path, body % b"Hi")
        assert reply.status == status
        assert "secret" not in str(reply.headers)
        assert USED.items() <= {name.lower(): value for name, value in reply.headers.items()}.items()
