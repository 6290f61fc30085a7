"""Tests of the errors of an invalid configuration.

All errors are reported together, each with its position and an allowed value.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.document.hujson import parse
from gateway.config.findings import ConfigError
from gateway.config.load import load, loads
from tests.config.examples import (
    EVERYTHING_HOSTED,
    PRODUCT_PAGE,
    SMALLEST,
    config,
    errors,
)


def test_an_error_names_file_line_column_path_fault_and_remedy() -> None:
    text = PRODUCT_PAGE.replace('"bearer"', '"beaer"')
    assert errors(text) == [
        'config.hujson:6:7: providers.bedrock.authorization: "beaer" is not one of bearer, x-api-key, x-goog-api-key, sigv4'
    ]


def test_all_errors_are_told_at_once_wherever_they_are() -> None:
    text = """{
      "providers": {
        "a": {"baseurl": "ftp://x", "authorization": "beaer", "apikey": "env:NOPE", "models": [3]},
        "b": [],
        "c": {"baseurl": "https://x", "baseurl": "https://y", "compatibility": {"openai_chat": "yes"}},
      },
      "grants": [{"src": "*", "app": {"tailscale.com/cap/aperture": [{"role": "root"}, 4]}}, {"app": {}}],
      "server": {"listeners": [{"listen": "0.0.0.0:80"}, {}], "limits": {"body_bytes": 1}, "hosts": ["http://x"]},
      "storage": [],
      "resilience": {"timeouts": {"read_seconds": 0}},
    }"""
    with pytest.raises(ConfigError) as caught:
        loads(text, environ={})
    assert [(finding.line, finding.path) for finding in caught.value.findings if finding.severity == "error"] == [
        (3, "providers.a.baseurl"),
        (3, "providers.a.authorization"),
        (3, "providers.a.apikey"),
        (3, "providers.a.models[0]"),
        (4, "providers.b"),
        (5, "providers.c.baseurl"),
        (5, "providers.c.compatibility.openai_chat"),
        (7, "grants[0].src"),
        (7, 'grants[0].app."tailscale.com/cap/aperture"[0].role'),
        (7, 'grants[0].app."tailscale.com/cap/aperture"[1]'),
        (7, "grants[1].src"),
        (8, "server.listeners[0]"),
        (8, "server.listeners[1].listen"),
        (8, "server.limits.body_bytes"),
        (8, "server.hosts[0]"),
        (9, "storage"),
        (10, "resilience.timeouts.read_seconds"),
    ]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"baseurl": "bedrock"}, "must be an absolute http or https URL"),
        ({"baseurl": "https://"}, "must be an absolute http or https URL"),
        ({"baseurl": "https://x:99999"}, "is no URL"),
        ({"baseurl": "https://[x"}, "is no URL"),
        ({"baseurl": "https://u:p@x"}, "must not hold a user or password"),
        ({"baseurl": "https://x?y=1"}, 'must hold no "?"'),
        ({"baseurl": "https://x/a b"}, 'must hold no "?"'),
        ({"baseurl": 1}, "must be a string, not a number"),
        ({"authorization": None}, "null is not one of"),
        ({"authorization": "Bearer"}, '"Bearer" is not one of'),
        ({"authorization": "correcthorsebattery"}, "the value is not one of"),
        ({"authorization": "bearer1"}, "the value is not one of"),
        ({"authorization": "SeCrEt"}, "the value is not one of"),
        ({"models": "m"}, 'must be a list of names, such as ["us.amazon.nova-lite-v1:0"], or "discover"'),
        ({"models": 7}, "must be a list, not a number"),
        ({"models": [""]}, "must not be empty"),
        ({"compatibility": ["openai_chat"]}, "must be an object, not a list"),
        ({"compatibility": {"openai_chat": 1}}, "must be true or false, not a number"),
        ({"preference": 1.5}, "must be a whole number"),
        ({"preference": True}, "must be a whole number, not a boolean"),
        ({"disabled": "no"}, "must be true or false, not a string"),
        ({"add_headers": ["x"]}, 'must be in "Header-Name: value" format'),
        ({"add_headers": ["x y: z"]}, 'must be in "Header-Name: value" format'),
        ({"add_headers": ["x: a\r\ny: b"]}, 'must be in "Header-Name: value" format'),
        ({"add_headers": ["Host: x"]}, '"Host" belongs to the connection'),
        ({"on_loss": "ignore"}, '"ignore" is not one of report, refuse'),
        ({"auto_cache": "every"}, '"every" is not one of false, true, all'),
        ({"auto_cache_ttl": "1d"}, "the value is not one of 5m, 1h"),
        ({"apikey": "a\nb"}, "line break"),
    ],
)
def test_a_fault_in_a_provider_is_an_error(members: dict[str, Any], message: str) -> None:
    (line,) = errors(config(members))
    assert f"providers.p.{next(iter(members))}" in line
    assert message in line


@pytest.mark.parametrize("name", ["", "a/b", "a b", "*", "a\nb"])
def test_a_provider_whose_key_cannot_stand_before_a_model_is_an_error(name: str) -> None:
    (line,) = errors(json.dumps({"providers": {name: {"apikey": ""}}}))
    assert "a provider's key is one word" in line


@pytest.mark.parametrize(
    ("listener", "message"),
    [
        ({"listen": "0.0.0.0:80"}, "can be reached by others"),
        ({"listen": "100.64.0.1:80"}, "can be reached by others"),
        ({"listen": "[::]:80"}, "can be reached by others"),
        ({"listen": "ai.example.ts.net:80"}, "can be reached by others"),
        ({"listen": "unix:/run/x.sock"}, "can be reached by others"),
        ({"listen": "0.0.0.0:80", "identity": "loopback"}, "can be reached by others"),
        ({"listen": "0.0.0.0:80", "identity": "static"}, 'needs a "login"'),
        ({"listen": "0.0.0.0:80", "identity": "static", "login": " "}, "must not be empty"),
        ({"listen": "0.0.0.0:80", "identity": "static", "tags": ["x"]}, 'starts with "tag:"'),
        ({"listen": "127.0.0.1:80", "login": "x"}, 'need "identity": "static"'),
        ({"listen": ":80"}, "is no address to listen on"),
        ({"listen": "8080"}, "is no address to listen on"),
        ({"listen": "::1:80"}, "is no address to listen on"),
        ({"listen": "127.0.0.1:65536"}, "is no address to listen on"),
        ({"listen": "[1.2.3]:80"}, "no IPv6 address"),
        ({"listen": "unix:"}, "followed by the path of a socket"),
        ({}, 'is missing; for example "listen"'),
        (3, "must be an object, not a number"),
    ],
)
def test_a_listener_whose_callers_are_not_known_is_an_error(listener: Any, message: str) -> None:
    (line,) = errors(config(server={"listeners": [listener]}))
    assert message in line


@pytest.mark.parametrize(
    ("sections", "path", "message"),
    [
        ({"server": {"listeners": []}}, "server.listeners", "must not be empty"),
        ({"server": {"listeners": [{"listen": "[::1]:1"}] * 2}}, "server.listeners[1]", "listened on twice"),
        ({"server": {"drain_seconds": -1}}, "server.drain_seconds", "must be at least 0"),
        ({"server": {"limits": []}}, "server.limits", "must be an object, not a list"),
        ({"server": []}, "server", "must be an object, not a list"),
        ({"providers": []}, "providers", "must be an object, not a list"),
        ({"grants": {}}, "grants", "must be a list, not an object"),
        (
            {"storage": {"url": "mysql://x"}},
            "storage.url",
            'must be "sqlite:PATH" or "postgresql://USER@HOST/DATABASE"',
        ),
        ({"storage": {"url": "sqlite:"}}, "storage.url", "followed by a path"),
        ({"storage": {"url": "sqlite:a\0b"}}, "storage.url", "followed by a path"),
        ({"resilience": {"timeouts": {"connect_seconds": 0}}}, "resilience.timeouts.connect_seconds", "greater than 0"),
        (
            {"grants": [{"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"models": 3}]}}]},
            'grants[0].app."tailscale.com/cap/aperture"[0].models',
            "must be a pattern",
        ),
    ],
)
def test_a_fault_in_a_section_is_an_error(sections: dict[str, Any], path: str, message: str) -> None:
    (line,) = errors(config(**sections))
    assert f": {path}: " in line
    assert message in line


def test_a_list_whose_only_element_is_wrong_is_told_of_once() -> None:
    (line,) = errors(config(model_aliases={"models": {"a": {"dst": ["m"]}}}))
    assert "dst[0]: must be in" in line


def test_a_duplicate_key_is_an_error_that_names_both_places() -> None:
    assert errors('{"providers": {},\n "grants": [], "providers": {}}') == [
        'config.hujson:2:16: providers: duplicate key "providers": it stands at 1:2 and again at 2:16; keep one of them'
    ]


def test_text_that_is_no_hujson_is_one_error_with_its_place() -> None:
    assert errors('{\n  "providers": [,]\n}') == ["config.hujson:2:17: a comma needs a value before it"]
    assert errors("") == ["config.hujson:1:1: the configuration is empty; it is one object, { ... }"]
    assert errors("[]") == ["config.hujson:1:1: must be an object, not a list"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b'{"a": "\xff"}', "is not UTF-8 text: byte 7 is none of it"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "config.hujson"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: {message}"


def test_a_configuration_that_is_a_pipe_is_an_error_and_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "config.hujson"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="is no regular file"):
        load(path)
    with pytest.raises(ConfigError, match="is no regular file"):
        load(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(["env:", "file:x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100)
@given(st.data())
def test_nothing_but_a_config_error_comes_of_wrong_types(data: st.DataObject) -> None:
    def maybe(value: Any) -> Any:
        return data.draw(JSON) if data.draw(st.integers(0, 5)) == 0 else value

    def broken(value: Any) -> Any:
        if isinstance(value, dict):
            return maybe({key: broken(item) for key, item in value.items()})
        return maybe([broken(item) for item in value] if isinstance(value, list) else value)

    whole = parse(EVERYTHING_HOSTED).value
    whole["server"] = {"listeners": [{"listen": "[::1]:1", "tags": ["tag:x"], "proxies": ["::1"]}], "limits": {}}
    with suppress(ConfigError):
        loads(json.dumps(broken(whole)), environ={}).config.providers.items()


@settings(max_examples=150)
@given(st.integers(0, len(SMALLEST)), st.integers(0, 20), st.text(max_size=5))
def test_nothing_but_a_config_error_comes_of_a_damaged_text(at: int, cut: int, put: str) -> None:
    with suppress(ConfigError):
        loads(SMALLEST[:at] + put + SMALLEST[at + cut :], environ={})
