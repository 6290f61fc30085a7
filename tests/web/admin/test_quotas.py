"""Tests of GET /api/quotas and POST /api/quotas/refill: what each role sees and may do, and the errors for wrong
bodies.
"""

import pytest

from tests.end_to_end.test_quotas import BOSS, CHAT, PRICE, USER, limited, quota, refill, settled


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "the body is no JSON"),
        ([], 400, "the body must be {"),
        ({"bucket": "team"}, 400, "amount: must be a sum of dollars"),
        ({"bucket": "team", "amount": 5}, 400, "amount: must be a sum of dollars"),
        ({"bucket": "team", "amount": "$0.00"}, 400, "amount: must be above zero"),
        ({"bucket": "team", "amount": "$-1"}, 400, "amount: must be a sum of dollars"),
        ({"amount": "$1"}, 400, "bucket: must be the name"),
        ({"bucket": "other", "amount": "$1"}, 404, 'bucket: no quota has a bucket "other"'),
        ({"bucket": "team", "amount": "$1", "who": "me"}, 400, "who: is no member"),
        ({"bucket": "x" * 5000, "amount": "$1"}, 413, "the body is larger"),
    ],
)
async def test_a_refill_that_is_wrong_says_which_field(tmp_path, bedrock_sim, body, status, message):
    async with limited(tmp_path, bedrock_sim, quota(PRICE)) as gw:
        reply = await refill(gw, body)
        assert reply.status == status
        assert (await reply.json())["error"].startswith(message)


async def test_a_refill_needs_its_content_type_and_an_admin(tmp_path, bedrock_sim):
    async with limited(tmp_path, bedrock_sim, quota(PRICE)) as gw:
        body = {"bucket": "team", "amount": "$1"}
        json_type = {"headers": {"content-type": "application/json"}}
        assert (await gw.post("/api/quotas/refill", body, **json_type)).status == 403
        assert (await refill(gw, body, headers={"content-type": "text/plain"})).status == 415


async def test_users_see_the_buckets_that_they_are_charged_to_and_admins_all(tmp_path, bedrock_sim):
    quotas = {"team": {"capacity": "$2.00", "rate": "$1.00/hour"}, "daily:<user>": {"capacity": "$1.00"}}
    async with limited(tmp_path, bedrock_sim, quotas) as gw:
        await gw.post(*CHAT)
        await settled(gw)
        rows = (await (await gw.get("/api/quotas")).json())["quotas"]
        assert [(row["bucket"], row["definition"]) for row in rows] == [
            (f"daily:{USER}", "daily:<user>"),
            ("team", "team"),
        ]
        assert rows[0] == {
            "bucket": f"daily:{USER}",
            "definition": "daily:<user>",
            "capacity_usd": 1.0,
            "balance_usd": 1 - PRICE / 10**9,
            "reserved_usd": 0.0,
            "rate": None,
            "reset": None,
            "time_zone": None,
            "refills_at": None,
            "on_exceed": "reject",
        }
        assert rows[1]["rate"] == "$1.00/hour"
        assert (await gw.get("/api/quotas?bucket=daily:boss@example.com")).status == 403
        gw.url = gw.admin
        rows = (await (await gw.get("/api/quotas")).json())["quotas"]
        assert {row["bucket"] for row in rows} == {f"daily:{USER}", f"daily:{BOSS}", "team"}
        (row,) = (await (await gw.get(f"/api/quotas?bucket=daily:{USER}")).json())["quotas"]
        assert row["balance_usd"] == 1 - PRICE / 10**9
        assert (await gw.get("/api/quotas?bucket=weekly:x")).status == 404
        assert (await gw.get("/api/quotas?identity=x")).status == 400


async def test_a_bucket_that_fills_beyond_all_dates_never_fills(tmp_path, bedrock_sim):
    """Check that `refills_at` is null for a bucket that would become full only after the last possible date."""
    slow = quota(10**9, rate="$0.000000001/month")
    async with limited(tmp_path, bedrock_sim, slow) as gw:
        for _ in range(5):
            assert (await gw.post(*CHAT)).status == 200
        await settled(gw, 5)
        reply = await gw.get("/api/quotas")
        ((row,),) = (await reply.json()).values()
        assert (reply.status, row["refills_at"]) == (200, None)
