"""Tests of `apikeys`: which keys are read, which faults are reported, and that the API and pages show no key."""

import json
from pathlib import Path

import pytest

from gateway.config.changes import rotated_keys
from gateway.config.document.hujson import parse
from gateway.config.document.redact import redact
from gateway.config.edit import propose
from gateway.config.findings import ConfigError
from gateway.config.load import loads
from gateway.config.model import active_secrets
from gateway.contract.registry import discover
from tests.helpers.gateway import EVERYTHING

LITERAL = "sk-a-literal-key-that-nobody-may-see"


def text(keys, **more):
    provider = {"baseurl": "https://models.test", "models": ["m"], "apikeys": keys, "cost_basis": "openai", **more}
    return json.dumps({"providers": {"p": provider}, "grants": EVERYTHING}, indent=2)


def loaded(keys, folder=Path(), environ=None, **more):
    return loads(text(keys, **more), folder=folder, environ=environ or {}, plugins=discover().known)


def faults(keys, **more):
    with pytest.raises(ConfigError) as error:
        loaded(keys, **more)
    return [*map(str, error.value.findings)]


def test_each_key_may_be_written_in_each_form(tmp_path):
    file = tmp_path / "c.key"
    file.write_text("key-in-a-file\n")
    file.chmod(0o600)
    keys = {"a": LITERAL, "b": "env:KEY_B", "c": "file:c.key", "d": "${KEY_D}"}
    result = loaded(keys, tmp_path, {"KEY_B": "key-in-the-environment", "KEY_D": "key-of-a-macro"})
    provider = result.config.providers["p"]
    values = [LITERAL, "key-in-the-environment", "key-in-a-file", "key-of-a-macro"]
    assert [(key.name, key.secret.value) for key in provider.apikeys] == [*zip("abcd", values, strict=True)]
    assert file in result.watched
    assert active_secrets(result.config) == {*values}
    assert not any(value in repr(provider) for value in values)
    assert result.warnings == ()


@pytest.mark.parametrize(
    ("keys", "more", "message"),
    [
        (["file:a.key"], {}, "providers.p.apikeys: "),
        ({"a": 1}, {}, "providers.p.apikeys.a: "),
        ({"a": ""}, {}, 'providers.p.apikeys.a: is empty; write the key, "env:NAME" or "file:PATH"'),
        ({"a": "exec:helper"}, {}, "providers.p.apikeys.a: there is no program "),
        ({"a": "keyfile::/x"}, {}, "providers.p.apikeys.a: there is no file /x"),
        ({"a": "env:NO_SUCH_KEY"}, {}, "providers.p.apikeys.a: the environment variable NO_SUCH_KEY is not set"),
        ({"a": "k"}, {"apikey": "other"}, 'providers.p.apikeys: stands beside "apikey"; '),
        ({"a": "k"}, {"authorization": "sigv4"}, 'providers.p.apikeys: are not sent, because "aws" or "sigv4" '),
        ({"a b": "k"}, {}, "providers.p.apikeys: a key's name has at most 32 letters, digits, "),
        ({str(n): f"key-{n}" for n in range(51)}, {}, "providers.p.apikeys: has 51 keys; the gateway takes 50 at most"),
    ],
)
def test_a_fault_is_told_with_its_place(keys, more, message):
    assert any(message in fault for fault in faults(keys, **more))


def test_a_key_in_the_place_of_its_name_is_not_shown():
    assert not any(LITERAL in fault for fault in faults({LITERAL: "team-a"}))


def test_a_key_that_stands_there_twice_is_warned_of():
    (warning,) = loaded({"a": LITERAL, "b": "other-key", "c": LITERAL}).warnings
    assert str(warning).endswith('providers.p.apikeys.c: is the same key as "a", and has no limit of its own')


@pytest.mark.parametrize("key", ["<your-key>", "vault:secret/key"])
def test_a_placeholder_among_several_keys_is_warned_of(key):
    (warning,) = loaded({"a": LITERAL, "b": key}).warnings
    assert "providers.p.apikeys.b: " in str(warning)


def test_keys_that_are_not_sent_are_warned_of():
    (warning,) = loaded({"a": LITERAL}, auth_mode="none").warnings
    assert 'providers.p.apikeys: has no effect with "auth_mode": "none"' in str(warning)


def test_readers_see_names_and_references_but_no_key():
    document = parse(text({"team-a": LITERAL, "token": "short", "team-b": "env:KEY_B"}))
    shown = redact(document, b"key")
    assert all(word in shown.text for word in ('"team-a"', '"token"', '"team-b": "env:KEY_B"'))
    assert LITERAL not in shown.text
    assert '"short"' not in shown.text
    proposal = propose(shown.text, Path("c.hujson"), shown.known, active=(), plugins=discover().known)
    assert proposal.text == document.text


def test_a_key_with_another_value_under_the_same_reference_is_a_change():
    before, after = (loaded({"a": "env:K", "b": "x"}, environ={"K": value}).config for value in ("one", "two"))
    assert rotated_keys(before, after) == ["providers.p.apikeys.a"]
    assert rotated_keys(after, after) == []
