"""Tests of bodies with a content coding, on every route and every conversion: the provider gets the decoded body.

Sources: issues about clients that compress their requests (mlflow/mlflow#24573, SaladDay/cc-switch-cli#469,
QuantumNous/new-api#4913, zyycn/codex-proxy-rs#66); RFC 9110, 8.4 (`Content-Encoding`) and 15.5.16 (status 415).
"""

import gzip
import json
import threading

import pytest

from gateway.call import content_codings
from tests.end_to_end.test_bodies import bodies
from tests.helpers.gateway import HAIKU, NOVA, bedrock, gate
from tests.helpers.packing import BY_NAME, zstd

CHAT = {"messages": [{"role": "user", "content": "packed"}]}
CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50, **CHAT}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "packed"}]}]}
ROUTES = [
    ("/v1/chat/completions", {"model": HAIKU, **CHAT}),
    ("/chat/completions", {"model": NOVA, **CHAT}),
    ("/v1/responses", {"model": HAIKU, "input": "packed"}),
    ("/responses", {"model": NOVA, "input": "packed", "stream": True}),
    ("/v1/messages", {"model": HAIKU, "max_tokens": 50, **CHAT}),
    ("/anthropic/v1/messages", {"model": NOVA, "max_tokens": 50, "stream": True, **CHAT}),
    ("/v1/messages/count_tokens", {"model": HAIKU, **CHAT}),
    (f"/bedrock/model/{NOVA}/converse", CONVERSE),
    (f"/model/{HAIKU}/converse-stream", CONVERSE),
    (f"/bedrock/model/{HAIKU}/invoke", CLAUDE),
    (f"/model/{HAIKU}/invoke-with-response-stream", CLAUDE),
    (f"/bedrock/model/{HAIKU}/count-tokens", {"input": {"converse": CONVERSE}}),
]
SIGNS = [
    ("/v1/chat/completions", {"model": HAIKU}, '"code":"unsupported_content_encoding"'),
    ("/v1/responses", {"model": HAIKU}, '"code":"unsupported_content_encoding"'),
    ("/v1/messages", {"model": HAIKU}, '"type":"invalid_request_error"'),
    (f"/bedrock/model/{NOVA}/converse", {}, '{"message":'),
]


@pytest.mark.parametrize("coding", sorted(BY_NAME))
async def test_every_route_takes_every_coding(tmp_path, bedrock_sim, coding):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        for path, body in ROUTES:
            data = json.dumps(body).encode()
            assert (await gw.post(path, data)).status == 200, path
            packed = BY_NAME[coding](data)
            assert (await gw.post(path, packed, headers={"Content-Encoding": coding})).status == 200, path
            plain, unpacked = bedrock_sim.requests[-2:]
            assert (unpacked.path, unpacked.body) == (plain.path, plain.body), path
            assert unpacked.headers["content-length"] == str(len(plain.body))
            assert "content-encoding" not in unpacked.headers


async def test_two_headers_of_the_name_are_two_codings(tmp_path, bedrock_sim):
    packed = zstd.compress(gzip.compress(json.dumps({"model": HAIKU, **CHAT}).encode()))
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        headers = [("Content-Encoding", "identity, gzip"), ("Content-Encoding", "zstd")]
        assert (await gw.post("/v1/chat/completions", packed, headers=headers)).status == 200


@pytest.mark.parametrize(("path", "body", "sign"), SIGNS)
async def test_what_cannot_be_decoded_is_refused_in_the_dialect(tmp_path, bedrock_sim, path, body, sign):
    data = json.dumps(body).encode()
    bomb = gzip.compress(b'{"model":"' + b"x" * 50_000_000)
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        unknown = await gw.post(path, data, headers={"Content-Encoding": "lz4"})
        assert (unknown.status, unknown.headers["accept-encoding"]) == (415, "gzip, deflate, br, zstd")
        assert sign in await unknown.text()
        for name, packed, status in (
            ("gzip", data, 400),
            ("zstd", zstd.compress(data)[:-1], 400),
            ("gzip", bomb, 413),
            ("gzip, gzip", gzip.compress(bomb), 413),
        ):
            reply = await gw.post(path, packed, headers={"Content-Encoding": name})
            assert reply.status == status
            assert "accept-encoding" not in reply.headers
        assert [record["outcome"] for record in await gw.calls(5)] == ["refused"] * 5
        assert not bedrock_sim.requests


async def test_a_kept_body_is_the_decoded_one(tmp_path, bedrock_sim):
    data = json.dumps({"model": HAIKU, **CHAT}).encode()
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, more={"database": {"save_raws": True}}) as gw:
        reply = await gw.post("/v1/chat/completions", zstd.compress(data), headers={"Content-Encoding": "zstd"})
        kept = (await bodies(gw, reply.headers["x-request-id"]))["request"]
    assert kept["body"] == data.decode()
    assert not {"content-encoding", "content-length"} & kept["headers"].keys()


@pytest.mark.parametrize("coding", sorted(BY_NAME))
async def test_bodies_are_decoded_in_other_threads_than_the_loops(tmp_path, bedrock_sim, monkeypatch, coding):
    """Check that no step of the decoding runs in the event loop's thread, where it would delay every other call."""
    threads = []

    class Watched(content_codings.Decoding):
        def slice(self):
            threads.append(threading.get_ident())
            return super().slice()

    monkeypatch.setattr(content_codings, "Decoding", Watched)
    content = "packed " * (3 * content_codings.SLICE // 7 + 1)
    packed = BY_NAME[coding](json.dumps({"model": HAIKU, "messages": [{"role": "user", "content": content}]}).encode())
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        assert (await gw.post("/v1/chat/completions", packed, headers={"Content-Encoding": coding})).status == 200
    assert content in bedrock_sim.requests[0].body.decode()
    assert len(threads) > 1
    assert threading.get_ident() not in threads
