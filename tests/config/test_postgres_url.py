"""Tests of the storage in PostgreSQL: its URL, its password, its encryption, and the messages about mistakes."""

import json

import pytest

from gateway.config.document.hujson import parse
from gateway.config.document.redact import redact
from gateway.config.findings import ConfigError
from gateway.config.load import loads
from gateway.config.model import active_secrets
from gateway.config.postgres_url import parse_postgres_url
from gateway.config.storage import PostgresServer, Sharing
from tests.helpers.tls import authority

URL = "postgresql://irisgate@db.example.com/irisgate"


@pytest.fixture(autouse=True)
def _asyncpg(monkeypatch):
    """Let a configuration with PostgreSQL be valid even if asyncpg is not installed."""
    monkeypatch.setattr("gateway.config.sections.storage.find_spec", lambda _: True)


def storage(environ=None, **settings):
    return loads(json.dumps({"storage": settings}), environ=environ or {}).config.storage


def errors(**settings):
    with pytest.raises(ConfigError) as error:
        storage(**settings)
    return [str(finding) for finding in error.value.findings]


@pytest.mark.parametrize(
    ("url", "server"),
    [
        (URL, ("db.example.com", 5432, "irisgate", "irisgate", "verified")),
        (f"{URL}?sslmode=require", ("db.example.com", 5432, "irisgate", "irisgate", "unverified")),
        (f"{URL}?sslmode=disable", ("db.example.com", 5432, "irisgate", "irisgate", "off")),
        ("postgres://a%40b@db:6000/x%20y", ("db", 6000, "a@b", "x y", "verified")),
        ("postgresql://u@[fd00::1]:1/d?sslmode=verify-full", ("fd00::1", 1, "u", "d", "verified")),
        ("postgresql://u@127.0.0.1/d", ("127.0.0.1", 5432, "u", "d", "off")),
        ("postgresql://u@localhost/d?sslmode=verify-full", ("localhost", 5432, "u", "d", "verified")),
        ("postgresql://u@/d?host=/run/postgresql", ("/run/postgresql", 5432, "u", "d", "off")),
        ("postgresql://u@:5433/d?host=%2Frun%2Fpg", ("/run/pg", 5433, "u", "d", "off")),
    ],
)
def test_a_url_names_a_server(url, server):
    assert parse_postgres_url(url) == PostgresServer(*server)
    assert storage(url=url).postgres.server == PostgresServer(*server)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://", 'must be "postgresql://USER@HOST/DATABASE"'),
        ("postgresql://db/irisgate", 'must be "postgresql://USER@HOST/DATABASE"'),
        ("postgresql://u@db", 'must be "postgresql://USER@HOST/DATABASE"'),
        ("postgresql://u@db/a/b", 'must be "postgresql://USER@HOST/DATABASE"'),
        ("postgresql://u@db/a#b", 'must be "postgresql://USER@HOST/DATABASE"'),
        ("postgresql://u@/d", "must name a host"),
        ("postgresql://u@db/d?host=/run", "must name a host"),
        ("postgresql://u@db:99999/d", "is no URL"),
        ("postgresql://u@[::1/d", "is no URL"),
        ("postgresql://u@/d?host=run", 'the option "host" is the absolute path'),
        (f"{URL}?sslmode=prefer", '"sslmode" must be one of disable, require, verify-full'),
        (f"{URL}?sslrootcert=/ca.pem", 'must have no other options than "sslmode" and "host"'),
        (f"{URL}?sslmode", 'its options must have the form "?sslmode=verify-full"'),
        ("postgresql://u@/d?host=/run&sslmode=require", "a connection to a socket is never encrypted"),
        ("postgresql://u:hunter2@db/d", 'must not hold a password; it goes into "password"'),
        ("mysql://u@db/d", 'must be "sqlite:PATH" or "postgresql://USER@HOST/DATABASE"'),
    ],
)
def test_a_wrong_url_is_told_without_what_is_in_it(url, message):
    (error,) = errors(url=url)
    assert f"storage.url: {message}" in error
    assert "hunter2" not in error


def test_a_replica_is_another_server():
    postgres = storage(url=URL, read_url="postgresql://irisgate@replica/irisgate").postgres
    assert postgres.replica == PostgresServer("replica", 5432, "irisgate", "irisgate", "verified")
    (error,) = errors(url=URL, read_url="sqlite:x.db")
    assert 'storage.read_url: must be "postgresql://USER@HOST/DATABASE"' in error


def test_the_password_is_a_secret(tmp_path):
    environ = {"DB": "from-the-environment"}
    assert storage(environ, url=URL, password="env:DB").postgres.password.value == "from-the-environment"
    assert storage(environ, url=URL, password="${DB}").postgres.password.value == "from-the-environment"
    (tmp_path / "password").write_text("from-a-file\n")
    assert storage(url=URL, password=f"file:{tmp_path}/password").postgres.password.value == "from-a-file"
    (error,) = errors(url=URL, password="env:NOTHING")
    assert "storage.password: the environment variable NOTHING is not set" in error
    (error,) = errors(url=URL, password="exec:program")
    assert 'storage.password: must be "env:NAME", "file:PATH" or the password itself' in error


def test_nobody_can_read_the_password():
    text = json.dumps({"storage": {"url": URL, "password": "correct horse"}})
    loaded = loads(text)
    assert "correct horse" not in redact(parse(text), b"key").text
    assert active_secrets(loaded.config) == {"correct horse"}
    assert "correct horse" not in repr(loaded.config)


@pytest.mark.parametrize("key", ["password", "read_url", "ca_file"])
def test_keys_of_postgres_need_postgres(key):
    value = URL if key == "read_url" else "x"
    for settings in ({}, {"url": "sqlite:x.db"}):
        (error,) = errors(**settings, **{key: value})
        assert f'storage.{key}: is for a store in PostgreSQL only; name it in "url"' in error


def test_the_package_is_needed(monkeypatch):
    monkeypatch.setattr("gateway.config.sections.storage.find_spec", lambda _: None)
    (error,) = errors(url=URL)
    assert "storage.url: needs asyncpg; install irisgate[postgres]" in error


def test_a_file_of_authorities_must_have_certificates(tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    (error,) = errors(url=URL, ca_file=str(tmp_path / "ca.pem"))
    assert "storage.ca_file: the file" in error


def test_a_file_of_authorities_needs_a_verified_connection(tmp_path):
    certificate, _ = authority(tmp_path, "ca")
    assert storage(url=URL, ca_file=str(certificate)).postgres.authorities == certificate.read_text()
    (error,) = errors(url=f"{URL}?sslmode=require", ca_file=str(certificate))
    assert "storage.ca_file: has no effect, because no connection is verified" in error


def test_gateways_may_share_a_database():
    assert storage(url=URL).postgres.sharing is None
    assert storage(url=URL, shared=True).postgres.sharing == Sharing(30, goes_on=False)
    settings = storage(url=URL, shared=True, lease_seconds=60, on_outage="go_on")
    assert settings.postgres.sharing == Sharing(60, goes_on=True)
    (error,) = errors(shared=True)
    assert "storage.shared: is for a store in PostgreSQL only" in error
    (error,) = errors(url=URL, on_outage="refuse")
    assert 'storage.on_outage: is for gateways that share a database; set "shared" to true' in error
