"""Tests of GET /aperture/pricing and of the prices in /v1/models.

Only the models that the caller may use are listed. Prices are exact, and unknown prices are left out.
"""

from decimal import Decimal

import pytest

from tests.helpers.gateway import CAP, HAIKU, NOVA, bedrock, gate

ALICE, BOSS = "alice@example.com", "boss@example.com"
GRANTS = [
    {"src": [ALICE], "app": {CAP: [{"role": "user"}, {"models": f"*/{HAIKU}"}, {"read_pricing": True}]}},
    {"src": [BOSS], "app": {CAP: [{"role": "admin"}, {"models": "**"}]}},
]
PROVIDERS = {"bedrock": bedrock("http://127.0.0.1:9")}


def listener(login):
    return {"listeners": [{"listen": "127.0.0.1:0", "identity": "static", "login": login}]}


async def answer_to(tmp_path, path="/aperture/pricing", *, login=ALICE, providers=None, **headers):
    async with gate(tmp_path, providers or PROVIDERS, grants=GRANTS, server=listener(login)) as here:
        reply = await here.get(path, headers=headers)
        return reply, await reply.json() if reply.body else None


async def test_the_prices_of_granted_models_are_told_in_dollars_for_a_million(tmp_path):
    reply, body = await answer_to(tmp_path)
    (model,) = body["models"]
    assert (reply.status, body["unit"]) == (200, "USD for 1M tokens or searches")
    assert (model["model"], model["provider"]) == (HAIKU, "bedrock")
    assert (model["cost_basis"], model["cost_basis_source"]) == (f"bedrock/{HAIKU}", "explicit")
    assert {name: model["pricing"][name] for name in ("input", "output", "input_cache_read", "input_cache_write")} == {
        "input": "1.1", "output": "5.5", "input_cache_read": "0.11", "input_cache_write": "1.375",
    }  # fmt: skip
    assert model["pricing"]["input_cache_write_1h"] == "2.2"


@pytest.mark.parametrize("name", [HAIKU, f"bedrock/{HAIKU}"])
async def test_one_model_is_asked_for_by_its_name(tmp_path, name):
    reply, body = await answer_to(tmp_path, f"/aperture/pricing/{name}")
    assert reply.status == 200
    assert [model["model"] for model in body["models"]] == [HAIKU]


@pytest.mark.parametrize("name", [NOVA, "nothing"])
async def test_a_model_that_is_not_granted_is_as_one_that_is_not_there(tmp_path, name):
    reply, body = await answer_to(tmp_path, f"/aperture/pricing/{name}")
    assert (reply.status, reply.headers["content-type"]) == (404, "application/problem+json")
    assert body["detail"] == "no such model, or it is not granted"


async def test_an_admin_without_the_capability_is_refused(tmp_path):
    reply, body = await answer_to(tmp_path, login=BOSS)
    assert (reply.status, reply.headers["content-type"]) == (403, "application/problem+json")
    assert "read_pricing" in body["detail"]


async def test_who_asks_again_is_told_that_nothing_has_changed(tmp_path):
    reply, _ = await answer_to(tmp_path)
    again, body = await answer_to(tmp_path, **{"If-None-Match": f'"other", {reply.headers["etag"]}'})
    assert (again.status, body, again.headers["etag"]) == (304, None, reply.headers["etag"])
    changed, _ = await answer_to(tmp_path, **{"If-None-Match": '"other"'})
    assert changed.status == 200


async def test_a_surcharge_and_tiers_are_in_the_prices(tmp_path):
    rules = [{"match": "*", "as": "openai/gpt-5", "adjustment": 1.1}]
    providers = {"lab": bedrock("http://127.0.0.1:9", models=[HAIKU], model_cost_map=rules)}
    _, body = await answer_to(tmp_path, providers=providers)
    (model,) = body["models"]
    assert (model["cost_basis"], model["adjustment"]) == ("openai/gpt-5", "1.1")
    assert Decimal(model["pricing"]["input"]) == Decimal("1.375")
    assert Decimal(model["pricing"]["modes"]["flex"]["output"]) == Decimal("5.5")


async def test_a_model_without_a_price_is_listed_without_one(tmp_path):
    providers = {"lab": bedrock("http://127.0.0.1:9", cost_basis="openai")}
    _, body = await answer_to(tmp_path, providers=providers)
    (model,) = body["models"]
    assert (model["pricing"], model["cost_basis"], model["cost_basis_source"]) == (None, None, "explicit")
    _, listed = await answer_to(tmp_path, "/v1/models", providers=providers)
    assert "pricing" not in listed["data"][0]


async def test_the_list_of_models_tells_what_a_token_costs(tmp_path):
    _, listed = await answer_to(tmp_path, "/v1/models")
    assert listed["data"][0]["pricing"] == {
        "input": "0.0000011",
        "output": "0.0000055",
        "input_cache_read": "0.00000011",
        "input_cache_write": "0.000001375",
        "input_cache_write_1h": "0.0000022",
    }
