"""Tests that a request is sent again only if no byte of it was written, and that every request that the provider has
read is recorded.
"""

import pytest

from tests.end_to_end.test_quotas import balance, limited, quota
from tests.helpers.closing_provider import PLACES, UNREAD, chat, closing_provider
from tests.helpers.gateway import HAIKU, bedrock, gate
from tests.helpers.waiting import eventually

CALLS = 30
BUDGET = 10**12
PATHS = {
    "native": (f"/bedrock/model/{HAIKU}/converse", lambda size: {"messages": [{"role": "user", "content": [{"text": "a" * size}]}]}),
    "translated": ("/v1/chat/completions", chat),
}  # fmt: skip


async def called(tmp_path, place, way, size=10):
    """Make `CALLS` calls, one after the other, to a provider that breaks connections at `place`. `way` is a key of
    `PATHS`.

    Return the number of requests that the provider counted, the statuses, the records, and the total charge.
    """
    path, body = PATHS[way]
    with closing_provider(place) as provider:
        async with limited(tmp_path, provider_like(provider), quota(BUDGET)) as gw:
            statuses = [(await gw.post(path, body(size))).status for _ in range(CALLS)]
            records = await gw.calls(CALLS)
            charged = BUDGET - balance(gw)
    return provider.posts, statuses, records, charged


def provider_like(provider):
    """Add an attribute `default` to the provider, because the function `limited` reads it. Return the provider."""
    provider.default = None
    return provider


@pytest.mark.parametrize("way", PATHS)
@pytest.mark.parametrize("place", PLACES)
async def test_a_kept_connection_that_is_closed_hides_no_request(tmp_path, place, way):
    """Check that each request that the provider has read is recorded and charged, although the provider breaks
    connections that the gateway uses again.
    """
    posts, statuses, records, charged = await called(tmp_path, place, way)
    attempts = [record["attempts"] for record in records]
    assert set(attempts) == {1}
    # nobody can tell whether a provider that closes has read what was written
    assert sum(attempts) >= posts if place in UNREAD else sum(attempts) == posts
    assert charged == round(sum(record["cost_usd"] for record in records) * 10**9)
    broken = [record for record in records if record["outcome"] == "failed"]
    assert len(broken) == sum(status >= 500 for status in statuses)
    assert all(record["estimated"] and record["cost_usd"] > 0 for record in broken)


async def test_a_connection_that_was_closed_while_idle_fails_no_call(tmp_path):
    path, body = PATHS["native"]
    with closing_provider("idle") as provider:
        async with gate(tmp_path, {"b": bedrock(provider.url)}) as gw:
            for number in range(CALLS):
                assert (await gw.post(path, body(10))).status == 200
                await eventually(lambda closed=number + 1: provider.closed == closed)
    assert provider.posts == CALLS


@pytest.mark.parametrize("place", ["after the head", "after half of the request", "after all"])
async def test_a_large_request_is_sent_once_too(tmp_path, place):
    """Check that a body that needs several writes is not sent twice."""
    posts, statuses, records, _ = await called(tmp_path, place, "native", size=3_000_000)
    assert sum(record["attempts"] for record in records) == posts == CALLS
    assert 0 < sum(status == 200 for status in statuses) < CALLS


async def test_a_request_that_broke_off_can_be_tried_again_by_the_client(tmp_path):
    _, statuses, records, _ = await called(tmp_path, "after all", "native")
    assert set(statuses) == {200, 503}
    (message,) = {record["error_message"] for record in records if record["outcome"] == "failed"}
    assert message.startswith("bedrock broke off before it answered")
