"""Tests of macros: where they are expanded, and that their values are never shown."""

import json

import pytest

from gateway.config.findings import mask
from gateway.config.load import load, loads
from tests.config.examples import config, errors

KEY = "sk-1234-very-secret"


def test_a_macro_is_replaced_before_anything_is_checked():
    text = config(
        {
            "baseurl": "https://${SERVICE}.${REGION}.amazonaws.com",
            "apikey": "${KEY}",
            "add_headers": ["X-A: ${A}.${A}"],
        },
        server={"listeners": [{"listen": "127.0.0.1:${PORT}"}]},
        storage={"url": "sqlite:${A}.db"},
    )
    environ = {"SERVICE": "bedrock-runtime", "REGION": "us-east-1", "KEY": KEY, "A": "m", "PORT": "8081"}
    settings = loads(text, environ=environ).config
    provider = settings.providers["p"]
    assert provider.baseurl == "https://bedrock-runtime.us-east-1.amazonaws.com"
    assert provider.apikey.value == KEY
    assert provider.add_headers == (("X-A", "m.m"),)
    assert (settings.server.listeners[0].port, settings.storage.url) == (8081, "sqlite:m.db")


CAPABILITY = "tailscale.com/cap/aperture"


@pytest.mark.parametrize(
    ("provider", "sections"),
    [
        ({"description": "${SET}"}, {}),
        ({"name": "with ${SET}"}, {}),
        ({"models": ["${SET}"]}, {}),
        ({"options": {"apikey": "${SET}"}}, {}),
        ({"base_models": {"m": "${SET}"}}, {}),
        ({"authorization": "${SET}"}, {}),
        ({}, {"server": {"hosts": ["${SET}"]}}),
        ({}, {"server": {"listeners": [{"listen": "127.0.0.1:1", "identity": "static", "login": "${SET}"}]}}),
        ({}, {"model_aliases": {"models": {"apikey": {"dst": ["${SET}/m"]}}}}),
        ({}, {"quotas": {"a": {"capacity": "${SET}"}}}),
        ({}, {"grants": [{"src": ["${SET}"], "app": {CAPABILITY: [{"role": "admin"}]}}]}),
        ({}, {"grants": [{"src": ["*"], "app": {CAPABILITY: [{"role": "admin"}, {"models": "${SET}"}]}}]}),
        ({}, {"hooks": {"url": {"authorization": "${SET}"}}}),
        ({}, {"nobody": {"knows": "${SET}"}}),
    ],
)
def test_a_macro_brings_nothing_where_its_value_would_be_shown(provider, sections):
    for name in ("SET", "UNSET"):
        text = config(provider, **sections).replace("SET", name)
        (error,) = [line for line in errors(text, environ={"SET": KEY}) if "macro" in line]
        assert "macros may only stand where a value is not shown" in error
        assert KEY not in error


@pytest.mark.parametrize(
    "sections",
    [
        {"hooks": {"a": {"url": "${ANY}", "apikey": "${ANY}"}}},
        {"mcp": {"servers": {"a": {"url": "${ANY}"}}}},
        {"connectors": {"servers": {"a": {"url": "${ANY}", "auth": {"type": "basic", "password": "${ANY}"}}}}},
        {"exporters": {"s3": {"access_key_id": "${ANY}", "access_secret": "${ANY}"}}},
        {"grants": [{"src": ["*"], "app": {CAPABILITY: [{"role": "admin"}, {"add_headers": ["X-A: ${ANY}"]}]}}]},
        {"server": {"listeners": [{"listen": "127.0.0.1:1", "identity": "whois", "tailscaled": "${ANY}"}]}},
    ],
)
def test_keys_and_addresses_of_every_section_may_be_macros(sections):
    text = config({}, **sections)
    settings = loads(text, environ={"ANY": "/a/path"})
    assert not [warning for warning in settings.warnings if "macro" in warning.message]
    assert "unsubstituted macros: [ANY]" in "".join(errors(text, environ={}))


def test_what_a_macro_brings_is_not_searched_for_macros():
    settings = loads(config({"apikey": "${A}"}), environ={"A": "${B}", "B": "b"}).config
    assert settings.providers["p"].apikey.value == "${B}"


def test_a_key_is_not_a_place_for_a_macro():
    text = '{"providers": {"${A}": {"baseurl": "https://x"}}}'
    assert list(loads(text, environ={"A": "a"}).config.providers) == ["${A}"]


@pytest.mark.parametrize("text", ["$NAME", "${}", "${1}", "$ {A}", "${A", "{A}", "cost: $5"])
def test_what_is_no_macro_stays_as_it_is(text):
    assert loads(config({"name": text}), environ={}).config.providers["p"].name == text


def test_every_unknown_macro_is_an_error_at_its_place():
    """Check that all unknown macros are reported as errors, each at its position. The errors do not list the known
    macros.
    """
    text = config({"baseurl": "${A}", "apikey": "${B} ${SET} ${C} ${B}"})
    messages = errors(text, environ={"SET": "x"})
    assert [line.partition(": ")[2] for line in messages] == [
        "providers.p.baseurl: unsubstituted macros: [A]",
        "providers.p.apikey: unsubstituted macros: [B, C]",
    ]


@pytest.mark.parametrize("member", [{"apikey": "file:${A}/key"}, {"baseurl": "${A}"}, {"add_headers": ["${A}"]}])
def test_nothing_else_is_said_of_a_place_whose_macro_is_unknown(member):
    (error,) = errors(config(member), environ={})
    assert error.endswith("unsubstituted macros: [A]")


def test_the_credentials_of_a_systemd_unit_are_a_file(tmp_path):
    (tmp_path / "bedrock").write_text(KEY + "\n")
    path = tmp_path / "config.hujson"
    path.write_text(config({"apikey": "file:${CREDENTIALS_DIRECTORY}/bedrock"}))
    loaded = load(path, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert loaded.config.providers["p"].apikey.value == KEY
    assert loaded.watched == {path, tmp_path / "bedrock"}


def test_the_document_is_kept_as_it_was_read():
    text = config({"apikey": "${KEY}"})
    loaded = loads(text, environ={"KEY": KEY})
    assert loaded.text == text
    assert loaded.document.value == json.loads(text)
    assert loaded.document.locate(("providers", "p", "apikey")) == (5, 7)


LONG = "https://" + "k" * 100 + "-1234"


@pytest.mark.parametrize("value", [KEY, LONG, f"{KEY}/x", f"svc:{KEY}", "ABSKQmVkcmBjaFQSUtleS"])
@pytest.mark.parametrize(
    "sections",
    [
        {"grants": [{"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"models": "${KEY}"}]}}]},
        {"grants": [{"src": ["autogroup:${KEY}"], "app": {}}]},
        {"model_aliases": {"models": {"a": {"dst": ["${KEY}/${KEY}"]}}}},
        {"model_aliases": {"strategy": "${KEY}"}},
        {"server": {"listeners": [{"listen": "${KEY}"}]}},
        {"server": {"listeners": [{"listen": "unix:/${KEY}"}]}},
        {"server": {"listeners": [{"listen": "0.0.0.0:1", "identity": "${KEY}"}]}},
        {"server": {"hosts": ["${KEY}"]}},
        {"storage": {"url": "${KEY}"}},
        {"quotas": {"a": {"capacity": "${KEY}"}}},
    ],
)
def test_no_message_shows_what_a_macro_brought(sections, value):
    environ = {"KEY": value}
    provider = {"apikey": "file:${KEY}", "authorization": "${KEY}", "cost_basis": "${KEY}", "base_models": {"m": ""}}
    messages = "\n".join(errors(config(provider, **sections), environ=environ))
    assert value not in messages
    assert not any(value[at : at + 8] in messages.replace("https://", "") for at in range(8, len(value) - 8))


def test_a_short_word_is_shown_for_no_key_looks_like_it():
    (error,) = errors(config({}, storage={"url": "${WAY}"}), environ={"WAY": "sqlite"})
    assert 'must be "sqlite:PATH"' in error


def test_masking_leaves_a_message_without_the_value_alone():
    assert mask("must be a string", KEY, "${KEY}") == "must be a string"
    assert mask(f'"{KEY[:12]}" is wrong', KEY, "${KEY}") == '"${KEY}" is wrong'


def test_masking_ends_also_where_the_macros_name_is_in_the_value():
    assert mask(f"{KEY} and {KEY}", KEY, f"${{{KEY}}}") == f"${{{KEY}}} and ${{{KEY}}}"


@pytest.mark.parametrize("value", ["", " ", "1", "a b"])
def test_a_value_too_short_to_be_a_key_is_not_masked(value):
    assert mask("must be 1 of a b", value, "${A}") == "must be 1 of a b"
