"""Tests of Aperture's launcher, which reads `/api/providers` and starts clients with certain environment variables.

The launcher itself (tailscale/aperture-cli) is a Go program. The tests repeat, as data, how it reads the list and which
environment variables it sets. The launcher offers a client for a provider if the provider's `compatibility` has one of
the client's compatibility flags.
"""

import pytest

from tests.clients.programs import Program, npm
from tests.clients.samples import PLAIN, SAID
from tests.clients.test_claude_code import QUIET
from tests.helpers.gateway import HAIKU, SONNET, bedrock, gate

OFFERED = {
    "claude, anthropic": {"anthropic_messages"},
    "claude, bedrock": {"bedrock_model_invoke", "bedrock_converse"},
    "codex": {"openai_responses"},
    "copilot": {"openai_chat", "openai_responses", "anthropic_messages"},
    "gemini": {"gemini_generate_content"},
}
"""Compatibility flags by client of the launcher. The launcher offers a client if a provider has at least one of the
client's flags.
"""


def read(body):
    """Read the body of a reply to `/api/providers`. Return a dict from the id of each provider to its entry.

    Fail if a member has a type that the launcher's decoder would refuse.
    """
    assert isinstance(body, list)
    for entry in body:
        assert all(isinstance(entry[name], str) for name in ("id", "name", "description"))
        assert all(isinstance(model, str) for model in entry["models"])
        assert all(value is True for value in entry["compatibility"].values())
    return {entry["id"]: entry for entry in body}


def offered(entry):
    return {client for client, flags in OFFERED.items() if flags & set(entry["compatibility"])}


async def listed(tmp_path, bedrock_sim, **provider):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, **provider)}) as gw:
        return read(await (await gw.get("/api/providers")).json())["b"]


@pytest.mark.parametrize(
    ("advertise", "clients"),
    [
        ({}, {"claude, bedrock"}),
        ({"advertise": "native"}, {"claude, bedrock"}),
        ({"advertise": "reachable"}, {"claude, anthropic", "claude, bedrock", "codex", "copilot", "gemini"}),
        ({"advertise": ["openai_responses"]}, {"codex", "copilot"}),
        (
            {"advertise": ["bedrock_converse", "anthropic_messages"]},
            {"claude, anthropic", "claude, bedrock", "copilot"},
        ),
        ({"advertise": []}, set()),
    ],
)
async def test_the_launcher_offers_what_the_operator_advertises(tmp_path, bedrock_sim, advertise, clients):
    entry = await listed(tmp_path, bedrock_sim, **advertise)
    assert offered(entry) == clients
    assert entry["speaks"] == ["bedrock_model_invoke", "bedrock_converse"]
    assert entry["models"][0] == HAIKU


async def test_newer_launchers_find_the_same_in_the_list_of_models(tmp_path, bedrock_sim):
    """Check that the list of models has the fields that newer launchers read.

    These are `upstream`, the provider's id, and `supported_endpoints`, the paths that tell which clients can use a
    model.
    """
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, advertise="reachable")}) as gw:
        body = await (await gw.get("/v1/models")).json()
    assert body["object"] == "list"
    for model in body["data"]:
        provider = model["metadata"]["provider"]
        assert (provider["id"], provider["upstream"], provider["requires_client_auth"]) == ("b", "b", False)
        assert {
            "/v1/messages", "/v1/responses", "/v1/chat/completions", "/bedrock/model/{model}/invoke",
            "/bedrock/model/{model}/converse",
        } <= set(model["supported_endpoints"])  # fmt: skip
    async with gate(tmp_path / "native", {"b": bedrock(bedrock_sim.url)}) as gw:
        model = (await (await gw.get("/v1/models")).json())["data"][0]
        assert all(path.startswith("/bedrock/model/{model}/") for path in model["supported_endpoints"])


async def test_a_flag_that_leads_to_none_of_the_models_is_not_shown(tmp_path, bedrock_sim):
    """Check that `/api/providers` lists a provider's compatibility flag only if one of its models can be called in the
    flag's API format.

    Here, the only model is Nova with InvokeModel. Responses requests cannot be translated for it, because the gateway
    writes InvokeModel bodies only for Claude.
    """
    nova = {"flags": ["bedrock_model_invoke"], "models": ["us.amazon.nova-lite-v1:0"]}
    entry = await listed(tmp_path, bedrock_sim, **nova, advertise=["openai_responses", "bedrock_model_invoke"])
    assert list(entry["compatibility"]) == ["bedrock_model_invoke"]


async def test_every_advertised_flag_serves_a_call(tmp_path, bedrock_sim):
    hello = [{"role": "user", "content": "hello"}]
    calls = {
        "anthropic_messages": ("/v1/messages", {"model": HAIKU, "max_tokens": 9, "messages": hello}),
        "openai_chat": ("/v1/chat/completions", {"model": HAIKU, "messages": hello}),
        "openai_responses": ("/v1/responses", {"model": HAIKU, "input": "hello"}),
        "gemini_generate_content": (
            f"/v1beta/models/{HAIKU}:generateContent",
            {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]},
        ),
        "bedrock_converse": (
            f"/bedrock/model/{HAIKU}/converse",
            {"messages": [{"role": "user", "content": [{"text": "hello"}]}]},
        ),
        "bedrock_model_invoke": (
            f"/bedrock/model/{HAIKU}/invoke",
            {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": hello},
        ),
    }
    for flag in ("bedrock_converse", "bedrock_model_invoke"):
        async with gate(tmp_path / flag, {"b": bedrock(bedrock_sim.url, flags=[flag], advertise="reachable")}) as gw:
            (entry,) = await (await gw.get("/api/providers")).json()
            assert set(entry["compatibility"]) == set(calls)
            for path, body in calls.values():
                assert (await gw.post(path, body)).status == 200, (flag, path)


CLAUDE = {
    "anthropic": {"ANTHROPIC_BASE_URL": "{host}", "ANTHROPIC_AUTH_TOKEN": "-"},
    "bedrock": {
        "ANTHROPIC_BEDROCK_BASE_URL": "{host}/bedrock",
        "CLAUDE_CODE_USE_BEDROCK": "1",
        "CLAUDE_CODE_SKIP_BEDROCK_AUTH": "1",
    },
}


@pytest.mark.parametrize("backend", CLAUDE)
async def test_claude_code_works_with_the_environment_that_the_launcher_gives(tmp_path, bedrock_sim, backend):
    async with gate(tmp_path / "state", {"b": bedrock(bedrock_sim.url, advertise="reachable")}) as gw:
        environ = {name: value.format(host=gw.url) for name, value in CLAUDE[backend].items()}
        models = {"ANTHROPIC_DEFAULT_SONNET_MODEL": SONNET, "ANTHROPIC_DEFAULT_HAIKU_MODEL": HAIKU}
        claude = npm("claude", tmp_path, Program, **QUIET, **environ, **models)
        bedrock_sim.script(PLAIN)
        status, output = await claude.run("-p", "hello", "--model", "sonnet")
        assert (status, output.strip()) == (0, SAID)
        assert {call["outcome"] for call in await gw.calls()} == {"ok"}


async def test_codex_works_with_the_launchers_arguments(tmp_path, bedrock_sim):
    """Check that Codex works with the arguments and environment variables that the launcher sets."""
    async with gate(tmp_path / "state", {"b": bedrock(bedrock_sim.url, advertise="reachable")}) as gw:
        provider = (
            f'{{ name = "Aperture", base_url = "{gw.url}/v1", env_key = "APERTURE_CODEX_API_KEY", '
            "supports_websockets = false }"
        )
        configured = (
            "--config", 'model_provider="tailscale_aperture_cli"',
            "--config", f"model_providers.tailscale_aperture_cli={provider}",
        )  # fmt: skip
        codex = npm("codex", tmp_path, Program, APERTURE_CODEX_API_KEY="not-needed")
        bedrock_sim.script(PLAIN)
        status, output = await codex.run(*configured, "exec", "--skip-git-repo-check", "--model", SONNET, "hello")
        assert status == 0, output
        assert SAID in output
        (call,) = await gw.calls()
        assert (call["outcome"], call["api"], call["agent"]) == ("ok", "openai_responses", "codex")


COPILOT = {
    "openai_chat": ("openai", "{host}/v1", "completions"),
    "openai_responses": ("openai", "{host}/v1", "responses"),
    "anthropic_messages": ("anthropic", "{host}", "completions"),
}


@pytest.mark.parametrize("flag", COPILOT)
async def test_copilot_works_with_the_environment_that_the_launcher_gives(tmp_path, bedrock_sim, flag):
    kind, base, wire = COPILOT[flag]
    async with gate(tmp_path / "state", {"b": bedrock(bedrock_sim.url, advertise=[flag])}) as gw:
        environ = {
            "COPILOT_PROVIDER_TYPE": kind,
            "COPILOT_PROVIDER_BASE_URL": base.format(host=gw.url),
            "COPILOT_PROVIDER_WIRE_API": wire,
            "COPILOT_PROVIDER_API_KEY": "not-needed",
            "COPILOT_OFFLINE": "true",
            "COPILOT_MODEL": HAIKU,
        }
        copilot = npm("copilot", tmp_path, Program, **environ)
        bedrock_sim.script(PLAIN)
        status, output = await copilot.run("-p", "hello", "--allow-all-tools")
        assert (status, SAID in output) == (0, True), output
        (record,) = await gw.calls()
        assert (record["api"], record["outcome"]) == (flag, "ok")
