"""Tests that a browser gets a page instead of JSON at an unknown path and under a foreign host name."""

import pytest

from tests.helpers.gateway import bedrock, gate

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
async def gw(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as running:
        yield running


@pytest.mark.parametrize("path", ["/ui/nothere", "/ui/<b>", "/nothere", "/ui/sessions/a/b"])
async def test_a_browser_gets_a_page_where_nothing_is(gw, path):
    answer = await gw.get(path, headers=BROWSER)
    text = await answer.text()
    assert (answer.status, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is no page at" in text
    assert "<b>" not in text
    assert answer.headers["x-request-id"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_a_browser_under_a_foreign_name_gets_a_page_that_says_so(gw):
    answer = await gw.get("/ui/", headers={**BROWSER, "Host": "evil.example"})
    assert (answer.status, answer.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert "is not one of this gateway" in await answer.text()


@pytest.mark.parametrize(("path", "headers"), [("/ui/nothere", {}), ("/api/nothere", BROWSER), ("/v1/x", BROWSER)])
async def test_others_and_the_api_keep_json(gw, path, headers):
    answer = await gw.get(path, headers=headers)
    assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (404, "application/json")


async def test_the_metrics_tell_of_the_process(gw):
    text = await (await gw.get("/metrics")).text()
    assert "\nprocess_resident_memory_bytes " in text
    assert "\nprocess_open_fds " in text
