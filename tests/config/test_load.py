"""Tests of loading a valid configuration. They check the loaded settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.access.grants import Grants
from gateway.access.identity.caller import LOOPBACK
from gateway.config.document.watch import stamps
from gateway.config.example import MINIMAL
from gateway.config.findings import ConfigError
from gateway.config.load import load, loads
from gateway.config.model import Config
from gateway.config.sections.providers import enabled_flags
from gateway.config.server import TAILSCALED, Listener
from gateway.contract.registry import KnownPlugins
from tests.config.examples import (
    HOSTED,
    KNOWN,
    NEW_INSTANCE,
    PRODUCT_PAGE,
    SMALLEST,
    TWO_REGIONS,
    config,
    provider,
)


@pytest.mark.parametrize("text", HOSTED.values(), ids=HOSTED)
def test_a_configuration_of_the_hosted_product_loads_unchanged(text: str) -> None:
    assert loads(text).config.providers


def test_the_product_page_becomes_a_provider() -> None:
    bedrock = loads(PRODUCT_PAGE).config.providers["bedrock"]
    assert (bedrock.id, bedrock.baseurl) == ("bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com")
    assert bedrock.apikey.value == "<your-bedrock-api-key>"
    assert bedrock.models[0] == "us.anthropic.claude-haiku-4-5-20251001-v1:0"
    assert len(bedrock.models) == 4
    assert (bedrock.authorization, bedrock.cost_basis, bedrock.flags) == (
        "bearer",
        "bedrock-us",
        ("bedrock_model_invoke",),
    )
    assert not bedrock.disabled


def test_providers_keep_the_order_of_the_document() -> None:
    assert list(loads(TWO_REGIONS).config.providers) == ["bedrock-us", "bedrock-eu"]


def test_the_example_warns_of_its_placeholder_alone_and_grants_its_models() -> None:
    loaded = loads(MINIMAL, plugins=KnownPlugins(KNOWN))
    grants = Grants(loaded.config.grants, loaded.config.providers)
    assert [warning.path for warning in loaded.warnings] == ["providers.bedrock.apikey"]
    assert all(grants.access(LOOPBACK).allows("bedrock", model) for model in loaded.config.providers["bedrock"].models)


def test_the_hosted_products_default_makes_everyone_an_admin() -> None:
    """Check that the default configuration of the hosted product makes everyone an admin."""
    settings = loads(NEW_INSTANCE).config
    assert Grants(settings.grants, settings.providers).access(LOOPBACK).role == "admin"
    assert settings.providers["anthropic"].flags == ("anthropic_messages",)


def test_what_is_left_out_has_defaults() -> None:
    settings = loads("{}").config
    assert settings == Config()
    assert settings.server.listeners == (Listener("127.0.0.1:8080", "127.0.0.1", 8080, "", "loopback"),)
    assert (settings.server.limits.body_bytes, settings.server.drain_seconds, settings.storage.url) == (
        33554432,
        30,
        None,
    )
    assert (settings.resilience.timeouts.connect_seconds, settings.resilience.timeouts.read_seconds) == (10, 600)


def test_every_member_of_a_provider_is_read() -> None:
    bedrock = provider(
        authorization="x-goog-api-key",
        cost_basis="google",
        compatibility={"anthropic_messages": True, "bedrock_converse": False},
        name="N",
        description="D",
        disabled=True,
        preference=-3,
        add_headers=["X-A: b: c", "x-b:d"],
        on_loss="refuse",
        auto_cache="all",
        auto_cache_ttl="1h",
        auth_mode="passthrough",
        base_models={"m": "amazon.nova-lite-v1:0"},
    )
    assert (bedrock.authorization, bedrock.cost_basis, bedrock.flags) == (
        "x-goog-api-key",
        "google",
        ("anthropic_messages",),
    )
    assert (bedrock.name, bedrock.description, bedrock.host) == ("N", "D", "example.com")
    assert (bedrock.disabled, bedrock.preference, bedrock.on_loss) == (True, -3, "refuse")
    assert (bedrock.auto_cache, bedrock.auto_cache_ttl) == ("all", "1h")
    assert bedrock.add_headers == (("X-A", "b: c"), ("x-b", "d"))
    assert (bedrock.auth_mode, bedrock.base_models) == ("passthrough", {"m": "amazon.nova-lite-v1:0"})


@pytest.mark.parametrize(
    ("written", "mode"), [("", "override"), ("override", "override"), ("passthrough", "passthrough"), ("none", "none")]
)
def test_the_providers_own_key_is_sent_unless_another_is_asked_for(written: str, mode: str) -> None:
    assert provider(auth_mode=written).auth_mode == mode
    assert provider().auth_mode == "override"


def test_models_may_be_null() -> None:
    assert provider(models=None).models == ()


@pytest.mark.parametrize(
    ("compatibility", "expected"),
    [
        (None, ("openai_chat",)),
        ({}, ("openai_chat",)),
        ({"bedrock_converse": False}, ("openai_chat",)),
        ({"bedrock_converse": True}, ("bedrock_converse",)),
        ({"bedrock_converse": True, "openai_chat": True}, ("bedrock_converse", "openai_chat")),
        ({"bedrock_converse": True, "openai_chat": False}, ("bedrock_converse",)),
        ({"openai_chat": False}, ()),
        ({"unheard_of": True}, ()),
    ],
)
def test_chat_is_on_unless_another_flag_is_set_without_it(
    compatibility: dict[str, bool] | None, expected: tuple[str, ...]
) -> None:
    assert enabled_flags(compatibility, KNOWN) == expected


def test_server_storage_and_resilience_are_read() -> None:
    settings = loads(
        config(
            server={
                "listeners": [
                    {"listen": "[::1]:0"},
                    {"listen": "0.0.0.0:80", "identity": "static", "login": "ci", "groups": ["g"], "tags": ["tag:a"]},
                    {"listen": "unix:/run/x.sock", "identity": "static", "tags": ["tag:b", "tag:a"]},
                ],
                "hosts": ["AI", "ai.example.ts.net."],
                "limits": {"body_bytes": 2048},
                "drain_seconds": 0.5,
            },
            storage={"url": "sqlite:/tmp/x.db"},
            resilience={"timeouts": {"read_seconds": 5}},
        )
    ).config
    assert settings.server.listeners == (
        Listener("[::1]:0", "::1", 0),
        Listener("0.0.0.0:80", "0.0.0.0", 80, "", "static", "ci", ("g",), ("tag:a",)),
        Listener("unix:/run/x.sock", "", 0, "/run/x.sock", "static", "tag:a,tag:b", (), ("tag:b", "tag:a")),
    )
    assert settings.server.hosts == ("ai", "ai.example.ts.net")
    assert (settings.server.limits.body_bytes, settings.server.drain_seconds) == (2048, 0.5)
    assert settings.storage.url == "sqlite:/tmp/x.db"
    assert (settings.resilience.timeouts.connect_seconds, settings.resilience.timeouts.read_seconds) == (10, 5)


@pytest.mark.parametrize("name", ["tailscale.com/cap/aperture", "irisgate.dev/cap/irisgate"])
def test_both_names_of_the_capability_are_read(name: str) -> None:
    grants = [{"src": ["a", "b"], "app": {name: [{"role": "user", "models": ["p/*", "**"], "read_metrics": True}]}}]
    (grant,) = loads(config(grants=grants)).config.grants
    (capability,) = grant.capabilities
    assert grant.src == ("a", "b")
    assert (capability.role, capability.models, capability.permissions) == ("user", ("p/*", "**"), {"read_metrics"})


def test_every_identity_mode_of_a_listener_is_read() -> None:
    listeners = [
        {"listen": "100.64.0.7:80", "identity": "whois", "tailscaled": "/x.sock", "service": "svc:ai"},
        {"listen": "127.0.0.1:80", "identity": "whois"},
        {"listen": "unix:/a", "identity": "serve-headers"},
        {
            "listen": "0.0.0.0:81",
            "identity": "proxy-protocol",
            "proxies": ["10.0.0.7", "FD00:0::1"],
            "service": "svc:b",
        },
    ]
    read = loads(config(server={"listeners": listeners})).config.server.listeners
    assert read == (
        Listener("100.64.0.7:80", "100.64.0.7", 80, identity="whois", login="", tailscaled="/x.sock", service="svc:ai"),
        Listener("127.0.0.1:80", "127.0.0.1", 80, identity="whois", tailscaled=TAILSCALED),
        Listener("unix:/a", "", 0, "/a", "serve-headers"),
        Listener(
            "0.0.0.0:81",
            "0.0.0.0",
            81,
            identity="proxy-protocol",
            service="svc:b",
            proxies=frozenset({"10.0.0.7", "fd00::1"}),
        ),
    )


def test_a_capability_says_where_it_is_written_and_which_headers_it_adds() -> None:
    text = """{
  "grants": [
    {"src": ["*"], "app": {"tailscale.com/cap/aperture": [
      {"role": "user"},
      {"models": "p/*", "add_headers": ["X-A: b"]},
    ]}},
  ],
}"""
    (grant,) = loads(text).config.grants
    path = 'grants[0].app."tailscale.com/cap/aperture"'
    assert [item.origin for item in grant.capabilities] == [
        f"{path}[0] (config.hujson:4:7)",
        f"{path}[1] (config.hujson:5:7)",
    ]
    assert grant.capabilities[1].add_headers == (("X-A", "b"),)


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.1.2.3:1", "localhost:1", "[::1]:1"])
def test_this_machine_alone_is_the_loopback_identity(listen: str) -> None:
    (listener,) = loads(config(server={"listeners": [{"listen": listen}]})).config.server.listeners
    assert listener.identity == "loopback"


def test_a_unix_socket_may_be_loopback_when_that_is_said() -> None:
    text = config(server={"listeners": [{"listen": "unix:/run/x.sock", "identity": "loopback"}]})
    assert loads(text).config.server.listeners[0].unix == "/run/x.sock"


def test_a_file_is_loaded_with_its_name_and_is_watched(tmp_path: Path) -> None:
    path = tmp_path / "config.hujson"
    path.write_text("\ufeff" + SMALLEST)
    assert load(path).watched == {path}
    path.write_text("{]")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}:1:2: expected a key in double quotes"
    assert caught.value.watched == {path}


def test_the_files_are_stamped_before_they_are_read(tmp_path: Path) -> None:
    """Check that a change is noticed even if a file changes while the configuration is loaded.

    The test changes the file when the loader reads the environment.
    """
    path = tmp_path / "config.hujson"
    path.write_text(config({"apikey": "env:KEY"}))

    class Saves(dict[str, str]):
        def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
            path.write_text("{}")
            return "key"

    assert load(path, environ=Saves()).stamps != stamps([path])
