"""Tests of two gateways that keep their configuration files equal through a shared database. The database is simulated."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import pytest

from gateway.call.context import NotTaken, Who
from gateway.config.document import atomic_file
from gateway.process.shared_config import MEMORY, REPLACED, SharedConfig
from gateway.store.base import StoreFailed
from gateway.telemetry.log import configure
from tests.helpers.gateway import Lines
from tests.helpers.waiting import eventually

ANN = Who("ann@example.com")


@dataclass
class Version:
    number: int
    who: str
    text: str


class Versions:
    """The versions of the configuration in a simulated database. While `is_away` is true, the database cannot be
    reached.
    """

    def __init__(self):
        self.all, self.is_away = [], False

    async def newest(self):
        self.check()
        return self.all[-1] if self.all else None

    async def add(self, text, who, *, after):
        self.check()
        if len(self.all) != after:
            return None
        self.all.append(Version(after + 1, who, text))
        return after + 1

    def check(self):
        if self.is_away:
            raise StoreFailed("the server is away")


class File:
    """A gateway's configuration file. A text that contains "bad" is an invalid configuration."""

    def __init__(self, text):
        self.text, self.on_disk, self.who = text, text.encode(), None

    def content(self):
        return self.on_disk

    async def replace(self, text, expected, who):
        if self.on_disk != expected:
            raise atomic_file.Changed("changed meanwhile")
        if "bad" in text:
            raise NotTaken("bad is not known here")
        self.edit(text)
        self.who = who.login

    def edit(self, text):
        self.text, self.on_disk = text, text.encode()


@pytest.fixture
def versions():
    return Versions()


@pytest.fixture
def gateway(tmp_path, versions):
    """Return a function that makes a gateway from the name of its state folder and the text of its configuration.

    The function returns the gateway's file, its `SharedConfig` and its log.
    """

    def one(name, text):
        state, lines = tmp_path / name, Lines()
        state.mkdir(exist_ok=True)
        file = File(text)
        return file, SharedConfig(versions, file, state, configure(lines)), lines

    return one


async def test_the_first_gateway_adds_its_file_and_the_second_takes_it(gateway, versions):
    (a, sharing_a, _), (b, sharing_b, _) = gateway("a", "one"), gateway("b", "two")
    await sharing_a.compare()
    await sharing_b.compare()
    assert (a.text, b.text, b.who) == ("one", "one", "file")
    assert [version.text for version in versions.all] == ["one"]


async def test_an_edited_file_reaches_the_other_gateway(gateway):
    (a, sharing_a, _), (b, sharing_b, lines) = gateway("a", "one"), gateway("b", "one")
    for sharing in (sharing_a, sharing_b):
        await sharing.compare()
    a.edit("two")
    for sharing in (sharing_b, sharing_a, sharing_b, sharing_a):
        await sharing.compare()
    assert (a.text, b.text) == ("two", "two")
    assert lines.count("config.edit_replaced") == 0


async def test_a_saved_text_has_its_author_everywhere(gateway, versions):
    (a, sharing_a, _), (b, sharing_b, _) = gateway("a", "one"), gateway("b", "one")
    await sharing_a.compare()
    await sharing_b.compare()
    await sharing_a.publish("two", ANN)
    a.edit("two")
    await sharing_b.compare()
    await sharing_a.compare()
    assert (b.text, b.who, len(versions.all)) == ("two", "ann@example.com", 2)


async def test_of_two_saves_at_once_one_is_refused(gateway):
    (_, sharing_a, _), (b, sharing_b, _) = gateway("a", "one"), gateway("b", "one")
    await sharing_a.compare()
    await sharing_b.compare()
    await sharing_a.publish("two", ANN)
    with pytest.raises(atomic_file.Changed, match="at another gateway"):
        await sharing_b.publish("three", ANN)
    await sharing_b.compare()
    assert b.text == "two"


async def test_of_two_edits_at_once_the_later_one_is_kept_aside(gateway, tmp_path):
    (a, sharing_a, _), (b, sharing_b, lines) = gateway("a", "one"), gateway("b", "one")
    await sharing_a.compare()
    await sharing_b.compare()
    a.edit("two")
    b.edit("three")
    for sharing in (sharing_a, sharing_b, sharing_a):
        await sharing.compare()
    assert (a.text, b.text) == ("two", "two")
    assert (tmp_path / "b" / REPLACED).read_text() == "three"
    assert (tmp_path / "b" / REPLACED).stat().st_mode & 0o777 == 0o600
    await lines.until("config.edit_replaced")


async def test_an_edit_with_faults_is_kept_aside_too(gateway, tmp_path):
    (_, sharing_a, _), (b, sharing_b, _) = gateway("a", "one"), gateway("b", "one")
    await sharing_a.compare()
    await sharing_b.compare()
    b.on_disk = b"a text that the gateway has refused"
    await sharing_a.publish("two", ANN)
    await sharing_b.compare()
    assert (b.text, b.on_disk) == ("two", b"two")
    assert (tmp_path / "b" / REPLACED).read_bytes() == b"a text that the gateway has refused"


async def test_a_version_that_cannot_be_used_here_leaves_the_file(gateway, versions):
    (_, sharing_a, _), (b, sharing_b, lines) = gateway("a", "one"), gateway("b", "one")
    await sharing_a.compare()
    await sharing_b.compare()
    await sharing_a.publish("bad", ANN)
    for _ in range(3):
        await sharing_b.compare()
    assert (b.text, [version.text for version in versions.all]) == ("one", ["one", "bad"])
    assert len(await lines.until("config.shared_version_refused")) == 1
    # an edit here is a newer version than the refused one
    b.edit("three")
    await sharing_b.compare()
    assert versions.all[-1].text == "three"


async def test_a_gateway_that_was_stopped_takes_what_it_missed_before_it_serves(gateway):
    (_, sharing_a, _), (_, sharing_b, _) = gateway("a", "one"), gateway("b", "one")
    await sharing_a.compare()
    await sharing_b.compare()
    await sharing_a.publish("two", ANN)
    b, again, lines = gateway("b", "one")
    await again.begin()
    assert (b.text, b.who) == ("two", "ann@example.com")
    assert lines.count("config.edit_replaced") == 0


async def test_a_file_that_was_edited_while_its_gateway_was_stopped_is_added(gateway, versions):
    _, sharing, _ = gateway("a", "one")
    await sharing.compare()
    b, again, _ = gateway("a", "two")
    await again.begin()
    assert b.text == "two"
    await again.compare()
    assert [version.text for version in versions.all] == ["one", "two"]


async def test_versions_that_were_restored_to_an_earlier_state_are_taken(gateway, versions):
    a, sharing, _ = gateway("a", "one")
    await sharing.compare()
    await sharing.publish("two", ANN)
    a.edit("two")
    versions.all.pop()
    await sharing.compare()
    assert a.text == "one"
    await sharing.publish("three", ANN)


async def test_a_save_is_refused_while_the_database_is_away(gateway, versions):
    _, sharing, _ = gateway("a", "one")
    await sharing.compare()
    versions.is_away = True
    with pytest.raises(StoreFailed, match="the server is away"):
        await sharing.publish("two", ANN)


async def test_an_edit_while_the_database_is_away_is_added_later(gateway, versions, monkeypatch):
    monkeypatch.setattr("gateway.process.shared_config.AGAIN_SECONDS", 0.01)
    a, sharing, lines = gateway("a", "one")
    await sharing.compare()
    versions.is_away = True
    following = asyncio.create_task(sharing.follow())
    a.edit("two")
    sharing.look_soon()
    await lines.until("config.database_is_away")
    versions.is_away = False
    await eventually(lambda: len(versions.all) == 2)
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    assert versions.all[-1].text == "two"
    assert len(await lines.until("config.database_is_away")) == 1


@pytest.mark.parametrize("content", [b"", b"{", b'{"number": "x"}', b"\xff"])
async def test_a_damaged_memory_of_the_version_is_as_none(gateway, versions, tmp_path, content):
    _, sharing, _ = gateway("a", "one")
    await sharing.compare()
    (tmp_path / "a" / MEMORY).write_bytes(content)
    a, again, _ = gateway("a", "two")
    await again.compare()
    assert (a.text, len(versions.all)) == ("one", 1)
    assert (tmp_path / "a" / REPLACED).read_text() == "two"
