"""Tests of the commands `doctor`, `backup` and `restore` with a store in PostgreSQL, and of the store's settings."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config.document.secrets import Secret
from gateway.config.model import Config
from gateway.config.storage import Postgres, PostgresServer, Storage
from gateway.process.command_line import main
from gateway.process.reload import fixed_changes
from gateway.process.stores import address, database_path, newest_schema, store_name
from gateway.store.base import StoreFailed
from gateway.store.journal_id import load_journal_id
from gateway.store.postgres.schema import MIGRATIONS
from tests.helpers.postgres import cluster, store_calls
from tests.helpers.records import NOON, record

SERVER = PostgresServer("db.example.com", 5432, "irisgate", "records", "verified")
CONFIG = Config(storage=Storage("postgresql://…", postgres=Postgres(server=SERVER, password=Secret("a-password"))))


@pytest.fixture
def database():
    return cluster().address()


@pytest.fixture
def config(tmp_path, database):
    path = tmp_path / "config.hujson"
    path.write_text(json.dumps({"storage": {"url": cluster().url(database)}}))
    return path


@pytest.fixture
def state(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


def doctor(capfd, state, config, *options):
    """Run `irisgate doctor`. Return the state and the message of each check of the database."""
    main(["doctor", "--state", str(state), "--config", str(config), "--json", *options])
    checks = json.loads(capfd.readouterr().out)["checks"]
    return [(each["state"], each["message"]) for each in checks if each["check"] == "database"]


def test_doctor_looks_at_the_database(capfd, state, config, database):
    ((result, message),) = doctor(capfd, state, config)
    assert result == "ok"
    assert message.startswith(f"{database}: PostgreSQL ")
    assert message.endswith("and the first start makes the tables")
    store_calls(database, [])
    ((result, message),) = doctor(capfd, state, config)
    assert (result, "no calls, " in message) == ("ok", True)
    store_calls(database, [record(id="a"), record(id="b", at=NOON + 1)])
    ((result, message),) = doctor(capfd, state, config)
    assert (result, "2 calls, the last of 2026-11-23T12:00:01.000Z, " in message) == ("ok", True)
    cluster().sql("UPDATE agents_day SET calls = 1", database.database)
    _, (result, message) = doctor(capfd, state, config)
    assert (result, message) == ("error", "1 sums lack calls that are stored")
    cluster().sql("DELETE FROM everybody_quarter", database.database)
    _, (result, message) = doctor(capfd, state, config)
    assert (result, message) == ("error", "2 sums lack calls that are stored")
    _, (result, message) = doctor(capfd, state, config, "--repair")
    assert (result, message) == ("repaired", "2 sums lacked calls, and are counted again")
    assert [result for result, _ in doctor(capfd, state, config)] == ["ok"]
    cluster().sql("UPDATE schema_version SET version = 999", database.database)
    ((result, message),) = doctor(capfd, state, config)
    assert (result, "its schema is version 999" in message) == ("error", True)


def test_a_repair_that_cannot_begin_changes_nothing(capfd, state, config, database, monkeypatch):
    """Check that a repair changes nothing if another transaction holds the lock for writing longer than the repair
    waits.
    """
    from gateway.store.postgres import connection, writing  # it needs asyncpg

    store_calls(database, [record(id="a")])
    cluster().sql("DELETE FROM figures_day", database.database)
    monkeypatch.setattr(connection, "LOCK_SECONDS", 1)
    other = connection.PostgresConnection(database, "writer")
    with other.transaction():
        writing.lock(other, writing.WRITING)
        main(["doctor", "--state", str(state), "--config", str(config), "--repair"])
    other.close()
    (line,) = [line for line in capfd.readouterr().out.splitlines() if line.startswith("error")]
    assert "canceling statement due to lock timeout; nothing was changed" in line
    assert cluster().sql("SELECT count(*) FROM figures_day", database.database) == [["0"]]


def test_doctor_says_why_the_server_cannot_be_used(capfd, state, config, database):
    cluster().sql(f"DROP DATABASE {database.database}")
    ((result, message),) = doctor(capfd, state, config)
    assert result == "error"
    assert message == f'{database}: database "{database.database}" does not exist'


@pytest.mark.parametrize("command", [["backup"], ["restore", "--replace"]])
def test_a_backup_is_left_to_the_tools_of_postgres(capfd, state, config, database, tmp_path, command):
    status = main([*command, str(tmp_path / "backup"), "--state", str(state), "--config", str(config)])
    error = capfd.readouterr().err
    assert status != 0
    assert f"the store is {database}, which PostgreSQL's own tools back up and restore" in error
    assert not (tmp_path / "backup").exists()


def test_names_of_the_store_have_no_password():
    assert store_name(CONFIG, Path("/state")) == "postgresql://irisgate@db.example.com:5432/records"
    assert newest_schema(CONFIG) == len(MIGRATIONS)
    # the file of bodies stays in the state folder
    assert database_path(CONFIG, Path("/state")) == Path("/state/irisgate.db")


def test_encryption_is_that_of_the_url():
    postgres = CONFIG.storage.postgres
    assert address(postgres, SERVER).tls.context().check_hostname
    assert not address(postgres, SERVER._replace(encryption="unverified")).tls.context().check_hostname
    assert address(postgres, SERVER._replace(encryption="off")).tls is None
    assert address(postgres, SERVER).password == "a-password"


def test_a_changed_server_needs_a_restart():
    postgres = CONFIG.storage.postgres
    for key, changed in {
        "storage.read_url": replace(postgres, replica=SERVER),
        "storage.password": replace(postgres, password=Secret("another")),
        "storage.ca_file": replace(postgres, authorities="-----BEGIN CERTIFICATE-----"),
    }.items():
        assert fixed_changes(CONFIG, replace(CONFIG, storage=replace(CONFIG.storage, postgres=changed))) == [key]


def test_a_journal_keeps_its_id(tmp_path):
    first = load_journal_id(tmp_path / "journal")
    assert load_journal_id(tmp_path / "journal") == first
    assert load_journal_id(tmp_path / "other") != first
    assert [path.name for path in (tmp_path / "journal").iterdir()] == ["id"]
    assert (tmp_path / "journal" / "id").stat().st_mode & 0o777 == 0o600
    (tmp_path / "journal" / "id").write_text("damaged")
    with pytest.raises(StoreFailed, match="is no id of a journal"):
        load_journal_id(tmp_path / "journal")
