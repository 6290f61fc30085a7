"""Tests of how the health of providers is shown: by `irisgate providers`, the API, the page and /readyz."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer

from gateway.process import model_refresh
from gateway.process.command_line import main
from gateway.store.reports.values import ModelHealth
from gateway.testkit.bedrock import BedrockSim
from gateway.testkit.openai import OpenAISim
from gateway.upstream.health.standings import Failure, Standing
from gateway.web.provider_health import known_health, state_words
from gateway.web.provider_table import table
from tests.helpers.gateway import CAP, HAIKU, KEY, bedrock, gate
from tests.helpers.processes import irisgate
from tests.helpers.waiting import eventually

CHAT = {"model": HAIKU, "messages": [{"role": "user", "content": "hello"}]}
NOWHERE = "http://127.0.0.1:9"
NOW = 1_800_000_000.0
LONG_RESTS = {"resilience": {"circuit_breaker": {"open_seconds": 5000, "window_seconds": 5000}}}
USER_OF_UP = [{"src": ["*"], "app": {CAP: [{"role": "user"}, {"models": "up/**"}]}}]


def two(sim: BedrockSim) -> dict[str, Any]:
    """Return the configuration of two providers of one model. The preferred provider cannot be reached."""
    return {"down": bedrock(NOWHERE, preference=1, models=[HAIKU]), "up": bedrock(sim.url, models=[HAIKU])}


def standing(**changed: Any) -> Standing:
    usual: dict[str, Any] = {
        "provider": "p", "model": "m", "state": "closed", "cause": "", "since": None, "retry_in": None, "calls": 3,
        "failures": 0, "throttles": 0, "mean_seconds": 0.5, "last_success_at": NOW - 7, "last_failure": None,
        "enabled": True, "has_other": True,
    }  # fmt: skip
    return Standing(**{**usual, **changed})


def stored(**changed: Any) -> ModelHealth:
    usual: dict[str, Any] = {
        "provider": "p", "model": "m", "last_success_at": NOW - 60, "last_error_at": NOW - 90, "last_error": "upstream",
        "last_error_message": "it broke", "last_error_call": "c1",
    }  # fmt: skip
    return ModelHealth(**{**usual, **changed})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "healthy"),
        ({"state": "half_open", "cause": "failures"}, "probed by calls"),
        ({"state": "slow_start"}, "recovering"),
        ({"state": "open", "cause": "failures", "retry_in": 12.3}, "rests for 12 s: its attempts failed"),
        (
            {"state": "open", "cause": "outlier", "retry_in": 9.0},
            "rests for 9 s: what can serve its calls in its place fails less",
        ),
        ({"state": "open", "cause": "key_refused", "retry_in": 0.0}, "rests: the provider refuses the key"),
        ({"state": "open", "cause": "throttled", "retry_in": 2.0}, "rests for 2 s: the provider asked to wait"),
    ],
)
def test_a_state_is_said_in_words(changed: dict[str, Any], words: str) -> None:
    assert state_words(standing(**changed)) == words


def test_a_model_without_another_provider_is_called_all_the_same() -> None:
    words = state_words(standing(state="open", cause="failures", retry_in=5.0, has_other=False))
    assert words.endswith("; called all the same, since nothing else can serve its calls")


def test_the_later_of_two_moments_counts_and_a_recorded_error_has_its_call() -> None:
    (known,) = known_health([standing()], [stored()], messages=True)
    assert (known.last_success_at, known.last_error_at, known.last_error_call) == (NOW - 7, NOW - 90, "c1")
    same = standing(last_failure=Failure(NOW - 89, "upstream", "it broke"))
    assert known_health([same], [stored()], messages=True)[0].last_error_call == "c1"
    other = standing(last_failure=Failure(NOW - 5, "unavailable", "no route"))
    (known,) = known_health([other], [stored()], messages=True)
    assert (known.last_error_at, known.last_error, known.last_error_message) == (NOW - 5, "unavailable", "no route")
    assert known.last_error_call == ""


def test_messages_of_errors_are_for_admins() -> None:
    (known,) = known_health([standing()], [stored()], messages=False)
    assert (known.last_error, known.last_error_message, known.last_error_call) == ("upstream", "", "")


def test_a_model_of_which_nothing_is_known_was_not_called() -> None:
    (known,) = known_health([standing(calls=0, last_success_at=None)], [], messages=True)
    assert (known.summary, known.as_dict()["last_error"]) == ("not called yet", None)


def test_the_table_is_aligned_and_cannot_move_the_cursor() -> None:
    open_ = standing(
        model="long-name", state="open", cause="failures", retry_in=8.0, calls=5, failures=5, last_success_at=None,
        last_failure=Failure(NOW - 7300, "unavailable", "no\x1b[2J route " + "x" * 200),
    )  # fmt: skip
    rows = [each.as_dict() for each in known_health([standing(), open_], [], messages=True)]
    lines = table(rows, NOW).splitlines()
    assert [line.index("state") if at == 0 else line[:18] for at, line in enumerate(lines)] == [
        21, "p         m       ", "p         long-name"[:18],
    ]  # fmt: skip
    assert lines[1].split()[2:] == ["healthy", "0", "of", "3", "7", "s", "ago", "none"]
    assert "rests for 8 s: its attempts failed  5 of 5  never" in lines[2]
    assert "2 h ago: unavailable: no?[2J route xxx" in lines[2]
    assert lines[2].endswith("…")
    assert table([], NOW) == "no models"


async def test_the_command_prints_the_states_of_a_running_gateway(tmp_path: Path, bedrock_sim: BedrockSim) -> None:
    async with gate(tmp_path, two(bedrock_sim), more=LONG_RESTS) as gw:
        for number in range(5):
            reply = await gw.post("/v1/chat/completions", CHAT, headers={"x-session-id": f"session-{number}"})
            assert reply.status == 200
        code, out, err = await irisgate(tmp_path, "providers", "--url", gw.url)
        _, as_json, _ = await irisgate(tmp_path, "providers", "--url", gw.url, "--json", "--provider", "down")
    assert (code, err) == (0, "")
    _, down, up = out.splitlines()
    assert down.startswith(f"down      {HAIKU}  rests for ")
    assert "its attempts failed  5 of 5  never" in down
    assert "unavailable: down cannot be reached: 127.0.0.1:9: nothing listens there (connection refused)" in down
    assert "healthy" in up
    (row,) = json.loads(as_json)["providers"]
    assert (row["state"], row["cause"], row["failures"], row["has_other"]) == ("open", "failures", 5, True)


async def test_a_user_sees_granted_models_without_messages(tmp_path: Path, bedrock_sim: BedrockSim) -> None:
    bedrock_sim.keys = {"another"}
    providers = {"up": bedrock(bedrock_sim.url, models=[HAIKU]), "other": bedrock(NOWHERE, models=["x"])}
    async with gate(tmp_path, providers, grants=USER_OF_UP) as gw:
        await gw.post("/v1/chat/completions", CHAT)
        rows = (await (await gw.get("/api/providers/health")).json())["providers"]
        assert (await gw.get("/api/providers/health?x=1")).status == 400
    assert [(row["provider"], row["cause"]) for row in rows] == [("up", "key_refused")]
    assert (rows[0]["last_error"]["code"], rows[0]["last_error"]["message"]) == ("upstream", "")


async def test_readyz_and_the_page_say_that_a_model_rests(tmp_path: Path, bedrock_sim: BedrockSim) -> None:
    async with gate(tmp_path, two(bedrock_sim), more=LONG_RESTS) as gw:
        for number in range(5):
            reply = await gw.post("/v1/chat/completions", CHAT, headers={"x-session-id": f"session-{number}"})
            assert reply.status == 200
        status, body = await gw.readiness()
        page = await (await gw.get("/ui/providers")).text()
        metrics = await (await gw.get("/metrics")).text()
    assert (status, body["status"], body["providers"]) == (200, "ready", "resting")
    (problem,) = body["problems"]
    assert problem["reason"] == "attempts at 1 models of providers fail; nothing else can serve the calls of 0 of them"
    assert re.search(r">rests for \d+ s: its attempts failed<", page)
    assert 'irisgate_check_failing{check="providers"} 1.0' in metrics


DISCOVERED = {"compatibility": {"openai_chat": True}, "models": "discover", "apikey": KEY}


async def test_a_provider_that_did_not_list_its_models_is_told_everywhere(
    tmp_path: Path, openai_upstream: OpenAISim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_refresh, "REFRESH_SECONDS", 0.05)
    monkeypatch.setattr(model_refresh, "RETRY_SECONDS", 0.05)
    openai_upstream.listed = ["gpt-5"]
    providers = {
        "up": {"baseurl": openai_upstream.url, **DISCOVERED}, "never": {"baseurl": NOWHERE, **DISCOVERED},
    }  # fmt: skip
    async with gate(tmp_path, providers) as gw:
        failures = gw.running.gateway.models.failures
        await gw.lines.until("models.changed")
        openai_upstream.keys = {"another"}
        await eventually(lambda: set(failures) == {"up", "never"})
        status, body = await gw.readiness()
        answer = await (await gw.get("/api/providers/health")).json()
        code, out, _ = await irisgate(tmp_path, "providers", "--url", gw.url)
        _, as_json, _ = await irisgate(tmp_path, "providers", "--url", gw.url, "--json", "--provider", "never")
        openai_upstream.keys = None
        await eventually(lambda: set(failures) == {"never"})
        assert [each["is_current"] for each in (await (await gw.get("/api/providers/health")).json())["lists"]] == [
            True, False,
        ]  # fmt: skip
    assert (status, body["status"], body["models"]) == (200, "ready", "unlisted")
    (problem,) = body["problems"]
    assert problem["reason"] == "2 providers did not list their models when asked last; 1 of them never did"
    up, never = answer["lists"]
    assert (up["models"], up["is_current"], never["models"], never["listed_at"]) == (1, False, 0, None)
    assert up["failure"].startswith("GET /v1/models was answered 401")
    assert KEY not in json.dumps(answer)
    assert code == 0
    _, _, of_up, of_never = out.splitlines()
    assert re.match(
        r"up did not list its models \(the list of \d+ s ago is in use\): GET /v1/models was answered", of_up
    )
    assert of_never.startswith("never did not list its models (it has no list): never cannot be reached")
    assert [each["provider"] for each in json.loads(as_json)["lists"]] == ["never"]


async def test_a_user_sees_the_lists_of_granted_providers_without_reasons(
    tmp_path: Path, openai_upstream: OpenAISim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_refresh, "REFRESH_SECONDS", 0.05)
    openai_upstream.listed = ["gpt-5"]
    providers = {
        "up": {"baseurl": openai_upstream.url, **DISCOVERED}, "other": {"baseurl": NOWHERE, **DISCOVERED},
    }  # fmt: skip
    async with gate(tmp_path, providers, grants=USER_OF_UP) as gw:
        await gw.lines.until("models.changed")
        openai_upstream.keys = {"another"}
        await eventually(lambda: "up" in gw.running.gateway.models.failures)
        (state,) = (await (await gw.get("/api/providers/health")).json())["lists"]
    assert (state["provider"], state["is_current"], state["failure"]) == ("up", False, None)


async def test_another_server_is_no_gateway(tmp_path: Path, aiohttp_server: AiohttpServer) -> None:
    async def other(_request: web.Request) -> web.Response:
        return web.Response(text='{"providers": [{"id": "x"}]}')

    app = web.Application()
    app.add_routes([web.get("/api/providers/health", other)])
    server = await aiohttp_server(app)
    code, _, err = await irisgate(tmp_path, "providers", "--url", f"http://127.0.0.1:{server.port}")
    assert (code, err) == (2, "irisgate providers: what answered is no Irisgate of this release; look at --url\n")


def test_a_gateway_that_cannot_be_reached_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["providers", "--url", NOWHERE]) == 2
    assert capsys.readouterr().err.startswith(f"irisgate providers: {NOWHERE} cannot be reached: ")
