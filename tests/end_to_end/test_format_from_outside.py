"""Tests that an API format whose plugin is in a folder of the operator is treated like a built-in one.

The plugin defines where a request has its session id and its files, and which options a provider has.
"""

import pytest

from tests.helpers.acme_api import acme_api
from tests.helpers.gateway import CAP, gate
from tests.pages.test_plugins import FLAG

UUID = "0a7c51b2-6b1f-4c8e-9a39-0c3a5a1f8c11"
PICTURE = "iVBORw0KGgo" * 4_000
SESSIONS = """
from gateway.contract import session_ids as ids
from gateway.contract.flag import SessionIds


def session_ids(request):
    return SessionIds(ids.small_member(request.top, "chat"))
"""
FILES = """
from gateway.contract.billing import File, length


def billed_parts(body):
    for picture in body.get("pictures", ()):
        yield File("image", length(picture))
"""
OPTIONS = """
from gateway.contract.flag import Settings


class Options(Settings):
    version: int = 2


def build(request, target, drop):
    body = request.top.spliced({"model": orjson.dumps(target.model)})
    return UpstreamRequest("POST", f"/v{target.options.version}/text", body)
"""
UNREPORTED = """

def meter(request, target, head):
    class Silent(TextMeter):
        def _read(self, data):
            pass

    return Silent()
"""
"""Source of a plugin function `meter` that never finds token counts. The cost of a call is then an estimate."""
QUOTAS = {"quotas": {"team": {"capacity": "$1.00", "rate": "$0/day", "on_exceed": "reject"}}}
DOLLARS_PER_TOKEN = 1.25e-6
GRANTS = [{"src": ["*"], "app": {CAP: [{"role": "admin"}, {"models": "**", "quotas": [{"bucket": "team"}]}]}}]


async def answered(state, code, request, *, options=None, **more):
    """Make a call in the example API format of `plugins/guide.md`. The text `code` is added to the format's plugin.

    Return the status of the reply and the record of the call.
    """
    folder = state / "plugins"
    folder.mkdir()
    (folder / "acme_text.py").write_text(FLAG + code)
    async with acme_api() as url:
        provider = {
            "baseurl": url, "apikey": "k", "models": ["gpt-5"], "compatibility": {"acme_text": True},
            "cost_basis": "openai", "options": options or {},
        }  # fmt: skip
        async with gate(state, {"acme": provider}, plugins=folder, **more) as gw:
            reply = await gw.post("/acme/v1/text", {"model": "gpt-5", "prompt": "hello", "max_tokens": 10, **request})
            (record,) = await gw.calls()
            return reply.status, record


@pytest.mark.parametrize(("code", "is_named"), [(SESSIONS, True), ("", False)])
async def test_a_session_that_the_body_names_is_the_calls(tmp_path, code, is_named):
    status, record = await answered(tmp_path, code, {"chat": UUID})
    assert (status, record["session_id"] == UUID) == (200, is_named)


async def test_its_pictures_are_estimated_by_its_own_rule(tmp_path):
    """Check that an image's tokens are estimated by the rule of the format's plugin, and not from the length of its
    base64.

    The provider reports no usage, so the cost shows the estimate.
    """
    costs = {}
    for name, code in (("image", FILES), ("text", "")):
        (state := tmp_path / name).mkdir()
        _, record = await answered(state, code + UNREPORTED, {"pictures": [PICTURE]}, grants=GRANTS, more=QUOTAS)
        costs[name] = record["cost_usd"]
    assert costs["text"] - costs["image"] == pytest.approx((len(PICTURE) // 3 - 5_000) * DOLLARS_PER_TOKEN, rel=0.01)


async def test_a_rule_that_fails_is_named_and_costs_one_call(tmp_path):
    code = "\n\ndef billed_parts(body):\n    yield body.nothing\n"
    status, record = await answered(tmp_path, code, {}, grants=GRANTS, more=QUOTAS)
    assert (status, record["error_native"]) == (500, "acme_text.billed_parts")


async def test_a_part_that_is_none_is_named(tmp_path):
    code = "\n\ndef billed_parts(body):\n    return [5]\n"
    status, record = await answered(tmp_path, code, {}, grants=GRANTS, more=QUOTAS)
    assert (status, record["error_native"]) == (500, "acme_text.billed_parts")


@pytest.mark.parametrize(("options", "status"), [({"acme_text": {"version": 1}}, 200), ({}, 404)])
async def test_its_options_reach_the_request(tmp_path, options, status):
    assert (await answered(tmp_path, OPTIONS, {}, options=options))[0] == status
