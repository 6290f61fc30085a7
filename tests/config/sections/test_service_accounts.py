"""Tests of `"apikey": "keyfile::PATH"`: which key files are read, which faults are reported, and that nobody sees a
private key.
"""

import json
from pathlib import Path

import pytest

from gateway.config.changes import rotated_keys
from gateway.config.credentials import KeyHelper, ServiceAccount
from gateway.config.document.hujson import parse
from gateway.config.document.redact import redact
from gateway.config.findings import ConfigError
from gateway.config.load import loads
from gateway.config.model import active_secrets
from gateway.config.sections import service_accounts
from gateway.config.sections.service_accounts import SCOPE, TOKEN_URI
from gateway.contract.registry import discover
from tests.helpers.gateway import EVERYTHING
from tests.helpers.google import EMAIL, elliptic_key, key_file, pem, private_key

BASE = "https://aiplatform.googleapis.com/v1/projects/p/locations/global/endpoints/openapi"


def text(apikey, **more):
    provider = {"baseurl": BASE, "models": ["m"], "cost_basis": "vertex", "apikey": apikey, **more}
    provider = {name: value for name, value in provider.items() if value is not None}
    return json.dumps({"providers": {"p": provider}, "grants": EVERYTHING}, indent=2)


def loaded(apikey, folder, **more):
    return loads(text(apikey, **more), folder=folder, environ={}, plugins=discover().known)


def issuer(apikey, folder, **more):
    return loaded(apikey, folder, **more).config.providers["p"].issuer


def faults(apikey, folder, **more):
    with pytest.raises(ConfigError) as error:
        loaded(apikey, folder, **more)
    return [*map(str, error.value.findings)]


def test_a_key_file_is_read_and_watched(tmp_path):
    file = key_file(tmp_path / "vertex.json", private_key_id="0123abcd")
    result = loaded("keyfile::vertex.json", tmp_path)
    account = result.config.providers["p"].issuer
    assert (account.email, account.key_id, account.token_uri) == (EMAIL, "0123abcd", TOKEN_URI)
    assert (account.scopes, account.key.value) == ((SCOPE,), pem(private_key()).strip() + "\n")
    assert file in result.watched
    assert result.warnings == ()
    assert not result.config.providers["p"].disabled


def test_the_path_may_be_absolute_or_begin_at_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    file = key_file(tmp_path / "sa.json")
    assert issuer(f"keyfile::{file}", Path("/")).email == EMAIL
    assert issuer("keyfile::~/sa.json", Path("/")).email == EMAIL


def test_the_account_itself_may_stand_in_place_of_the_path(tmp_path):
    content = key_file(tmp_path / "sa.json").read_text()
    account = issuer(f"keyfile::{content}", tmp_path)
    assert (account.email, account.key.source) == (EMAIL, "literal")


def test_the_endpoint_and_the_scopes_may_be_set(tmp_path):
    key_file(tmp_path / "sa.json", token_uri="https://tokens.partner.test/token")
    google = {"token_uri": "http://127.0.0.1:9/token", "scopes": ["https://www.googleapis.com/auth/x", "openid"]}
    account = issuer("keyfile::sa.json", tmp_path, google=google)
    assert account.token_uri == "http://127.0.0.1:9/token"
    assert account.scopes == ("https://www.googleapis.com/auth/x", "openid")


@pytest.mark.parametrize("uri", ["https://accounts.google.com/o/oauth2/token", None])
def test_an_older_key_file_may_name_googles_older_endpoint_or_none(tmp_path, uri):
    key_file(tmp_path / "sa.json", token_uri=uri)
    assert issuer("keyfile::sa.json", tmp_path).token_uri == uri or TOKEN_URI


PEM = pem(private_key())
FAULTS = {
    # member of the key file: words of the error
    ("type", "authorized_user"): '"type" is "authorized_user" (the login of a person) and must be "service_account"',
    ("type", None): '"type" is null and must be "service_account"; create one with gcloud iam service-accounts keys',
    ("universe_domain", "s3ns.fr"): '"universe_domain" is "s3ns.fr"; only accounts of "googleapis.com"',
    ("client_email", None): '"client_email" is missing or empty; use the file as Google Cloud issued it',
    ("client_email", 1): '"client_email" is no text',
    ("client_email", "a\nb@c"): '"client_email" has characters that no key file has',
    ("client_email", "nobody"): '"client_email" is no address such as',
    ("private_key", ""): '"private_key" is missing or empty',
    ("private_key", PEM[:200]): '"private_key" is no private key in PEM format',
    ("private_key", "MIIEvQIBADANBgkqhkiG9w0BAQEF"): '"private_key" is no private key in PEM format',
    ("private_key", pem(private_key(), b"x")): '"private_key" is encrypted',
    ("private_key", pem(private_key(2, 1024))): '"private_key" is no RSA key of 2048 bits or more',
    ("private_key", pem(elliptic_key())): '"private_key" is no RSA key of 2048 bits or more',
    ("private_key_id", 7): '"private_key_id" is no text',
    ("token_uri", "http://oauth2.googleapis.com/token"): "which is no https URL at oauth2.googleapis.com, ",
    ("token_uri", "https://oauth2.googleapis.com.evil.test/token"): 'correct it to "https://oauth2.googleapis.com/token"',
    ("token_uri", "https://oauth2.googleapis.com@169.254.169.254/token"): 'or name the endpoint in the provider\'s "google"',
    ("token_uri", "https://169.254.169.254/latest"): "which is no https URL at",
    ("token_uri", "https://oauth2.googleapis.com:444/token"): "which is no https URL at",
    ("token_uri", "https://oauth2.googleapis.com/token?x"): "which is no https URL at",
    ("token_uri", "https://[x"): "which is no https URL at",
    ("token_uri", 7): '"token_uri" is 7, which is no https URL at',
}  # fmt: skip


@pytest.mark.parametrize(("member", "value"), FAULTS)
def test_a_fault_of_a_key_file_names_the_field_and_what_is_right(tmp_path, member, value):
    file = key_file(tmp_path / "sa.json", **{member: value})
    (fault,) = faults("keyfile::sa.json", tmp_path)
    assert f"providers.p.apikey: the file {file}: {FAULTS[member, value]}" in fault or FAULTS[member, value] in fault
    assert str(file) in fault
    assert PEM.splitlines()[1] not in fault


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON (line 1, column "),
        ("[]", "holds no JSON object"),
        ("", "is empty; write the key into it"),
        ("x" * 65_537, "is larger than 65536 bytes"),
    ],
)
def test_a_file_that_is_no_key_file_is_an_error(tmp_path, content, message):
    (tmp_path / "sa.json").write_text(content)
    (fault,) = faults("keyfile::sa.json", tmp_path)
    assert f"providers.p.apikey: the file {tmp_path / 'sa.json'} {message}" in fault


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    assert f"there is no file {tmp_path / 'gone.json'}" in faults("keyfile::gone.json", tmp_path)[0]
    assert f"{tmp_path} is no regular file" in faults(f"keyfile::{tmp_path}", tmp_path)[0]
    assert '"keyfile::" is followed by the path of a key file' in faults("keyfile::", tmp_path)[0]


@pytest.mark.parametrize(
    ("google", "message"),
    [
        ({"token_uri": "http://oauth2.googleapis.com/token"}, "providers.p.google.token_uri: "),
        ({"token_uri": "https://user:password@x.test/token"}, "providers.p.google.token_uri: this is no https URL "),
        ({"token_uri": "file:///etc/passwd"}, 'is no https URL without user and query, such as "https://oauth2'),
        ({"token_uri": "https://x.test:99999/token"}, "providers.p.google.token_uri: "),
        ({"scopes": ["two words"]}, 'providers.p.google.scopes: "two words" is no scope; write one such as '),
        ({"scopes": "x"}, "providers.p.google.scopes: "),
    ],
)
def test_a_wrong_setting_is_an_error(tmp_path, google, message):
    key_file(tmp_path / "sa.json")
    (fault,) = faults("keyfile::sa.json", tmp_path, google=google)
    assert message in fault
    assert "password" not in fault


def test_a_token_is_sent_as_a_bearer_token_only(tmp_path):
    key_file(tmp_path / "sa.json")
    (fault,) = faults("keyfile::sa.json", tmp_path, authorization="x-goog-api-key")
    assert 'providers.p.authorization: is "x-goog-api-key", but tokens by "keyfile::" are sent as "bearer"' in fault


def test_settings_without_a_key_file_are_warned_of(tmp_path):
    (warning,) = loaded("k", tmp_path, google={}).warnings
    assert 'providers.p.google: has no effect without a key of the form "keyfile::PATH"' in str(warning)


def test_a_key_file_that_everybody_can_read_is_warned_of(tmp_path):
    key_file(tmp_path / "sa.json", mode=0o644)
    (warning,) = loaded("keyfile::sa.json", tmp_path).warnings
    assert "providers.p.apikey: every user of this machine can read the key's file" in str(warning)


@pytest.mark.parametrize(
    ("apikey", "more"), [("keyfile::sa.json", {}), (None, {"apikeys": {"a": "keyfile::sa.json", "b": "k"}})]
)
def test_without_the_package_the_provider_is_left_out(tmp_path, monkeypatch, apikey, more):
    monkeypatch.setattr(service_accounts, "find_spec", lambda _: None)
    key_file(tmp_path / "sa.json")
    result = loaded(apikey, tmp_path, **more)
    (warning,) = result.warnings
    assert "needs cryptography (install irisgate[google]); the provider is left out of routing" in str(warning)
    assert result.config.providers["p"].disabled


def test_nobody_sees_the_private_key(tmp_path):
    content = key_file(tmp_path / "sa.json").read_text()
    secret = PEM.splitlines()[1]
    for apikey in ("keyfile::sa.json", f"keyfile::{content}"):
        config = loaded(apikey, tmp_path).config
        assert secret not in repr(config)
        assert any(secret in each for each in active_secrets(config))
    assert redact(parse(text("keyfile::sa.json")), b"key").text == text("keyfile::sa.json")
    assert secret not in redact(parse(text(f"keyfile::{content}")), b"key").text


def test_a_new_key_in_the_same_file_is_a_change(tmp_path):
    file = key_file(tmp_path / "sa.json")
    one = loaded("keyfile::sa.json", tmp_path).config
    key_file(file, private_key=pem(private_key(3)))
    two = loaded("keyfile::sa.json", tmp_path).config
    assert rotated_keys(one, two) == ["providers.p.apikey"]
    assert rotated_keys(two, two) == []


def test_each_of_several_keys_may_have_a_source(tmp_path):
    folder = tmp_path / "helpers"
    folder.mkdir()
    (folder / "token").write_text("#!/bin/sh\necho sk-1\n")
    (folder / "token").chmod(0o755)
    key_file(tmp_path / "sa.json")
    keys = {"a": "keyfile::sa.json", "b": "exec:token", "c": "sk-of-the-configuration"}
    provider = loaded(None, tmp_path, apikeys=keys).config.providers["p"]
    account, helper, none = (key.source for key in provider.apikeys)
    assert isinstance(account, ServiceAccount)
    assert (helper, none, provider.issuer) == (KeyHelper((str(folder / "token"),)), None, None)
    assert [provider.issuer_of(name) for name in ("a", "b", "c", "")] == [account, helper, None, None]


def test_the_same_source_twice_is_warned_of(tmp_path):
    key_file(tmp_path / "sa.json")
    (warning,) = loaded(None, tmp_path, apikeys={"a": "keyfile::sa.json", "b": "keyfile::sa.json"}).warnings
    assert 'providers.p.apikeys.b: is the same key as "a", and has no limit of its own' in str(warning)


def test_a_fault_of_one_of_several_keys_names_it(tmp_path):
    fault = faults(None, tmp_path, apikeys={"a": "keyfile::gone.json", "b": "exec:gone"})
    assert "providers.p.apikeys.a: there is no file" in fault[0]
    assert "providers.p.apikeys.b: there is no program" in fault[1]
