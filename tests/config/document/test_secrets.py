"""Tests of secrets: where they are read from, and that they are never shown."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import os
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from gateway.config.document.secrets import MAX_BYTES, SecretError, resolve
from gateway.config.document.watch import watch
from gateway.config.findings import ConfigError
from gateway.config.load import load, loads
from tests.config.examples import config

KEY = "sk-1234-very-secret"
KEY_OF_LETTERS = "ABSKQmVkcmBjaFQSUtleS"


def test_a_literal_is_itself() -> None:
    secret = resolve(KEY, Path(), {})
    assert (secret.value, secret.source) == (KEY, "literal")


def test_an_empty_secret_is_false() -> None:
    assert not resolve("", Path(), {})
    assert resolve(KEY, Path(), {})


def test_the_environment_is_read_by_name_and_stripped() -> None:
    secret = resolve("env:MY_KEY", Path(), {"MY_KEY": f" {KEY}\n"})
    assert (secret.value, secret.source) == (KEY, "env:MY_KEY")


@pytest.mark.parametrize("name", ["key", "./key", "{folder}/key"])
def test_a_file_is_read_from_the_folder_of_the_configuration_and_stripped(tmp_path: Path, name: str) -> None:
    (tmp_path / "key").write_text(f"\ufeff{KEY}\r\n")
    secret = resolve("file:" + name.format(folder=tmp_path), tmp_path, {})
    assert secret.value == KEY


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("env:", '"env:" is followed by the name'),
        (f"env:{KEY}", '"env:" is followed by the name'),
        ("env:MISSING", "MISSING is not set"),
        ("env:EMPTY", "EMPTY is empty"),
        ("file:", '"file:" is followed by a path'),
        ("file:a\0b", '"file:" is followed by a path'),
        ("file:missing", "there is no file"),
        ("file:" + "x" * 300, "cannot be read"),
        ("file:folder", "is no regular file"),
        ("file:pipe", "is no regular file"),
        ("file:empty/key", "there is no file"),
        ("file:empty", "is empty"),
        ("file:large", "is larger than"),
        ("file:binary", "is no text"),
        ("file:lines", "line break"),
        (f"{KEY}\n{KEY}", "line break"),
        (f"{KEY}é", "printable ASCII"),
    ],
)
def test_a_secret_that_cannot_be_had_is_refused_without_being_shown(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "large").write_text("x" * (MAX_BYTES + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "lines").write_text(f"{KEY}\n{KEY}\n")
    with pytest.raises(SecretError, match=message) as caught:
        resolve(text, tmp_path, {"EMPTY": " "})
    assert KEY not in str(caught.value)


def test_neither_a_secret_nor_its_owner_shows_it() -> None:
    provider = loads(config({"apikey": KEY, "add_headers": [f"x-key: {KEY}"]})).config.providers["p"]
    holders: list[Any] = [provider, provider.apikey, copy.deepcopy(provider.apikey), [provider.apikey]]
    assert all(KEY not in f"{value!r} {value}" for value in holders)
    assert KEY not in repr(
        dataclasses.asdict(dataclasses.replace(provider, options={}, base_models={}, add_headers=()))
    )


@pytest.mark.parametrize(
    "members",
    [
        {"apikey": [KEY]},
        {"apikey": {"x": KEY}},
        {"apikey": f"{KEY}\n"},
        {"authorization": KEY},
        {"authorization": KEY_OF_LETTERS},
        {"on_loss": KEY_OF_LETTERS},
        {"add_headers": [KEY]},
        {"add_headers": [{"x": KEY}]},
        {"baseurl": f"https://user:{KEY}@example.com"},
        {"baseurl": KEY},
        {"models": {KEY: 1}},
        {"preference": KEY},
    ],
)
def test_no_error_shows_a_secret_that_stands_in_the_wrong_place(members: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(config(members))
    assert KEY not in str(caught.value)
    assert KEY_OF_LETTERS not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_files_of_secrets_are_watched_also_while_they_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "config.hujson"
    path.write_text(config({"apikey": "file:key"}))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.watched == {path, tmp_path / "key"}
    (tmp_path / "key").write_text(KEY)
    assert load(path).watched == {path, tmp_path / "key"}


async def test_a_key_that_kubernetes_swaps_is_noticed_and_read_anew(tmp_path: Path) -> None:
    """Check that a key is read again when Kubernetes replaces the symbolic link `..data`, which points to the folder
    with the key.
    """
    for version in ("v1", "v2"):
        (tmp_path / "secret" / version).mkdir(parents=True)
        (tmp_path / "secret" / version / "key").write_text(f"{KEY}-{version}")
    (tmp_path / "secret" / "..data").symlink_to("v1")
    (tmp_path / "secret" / "key").symlink_to("..data/key")
    path = tmp_path / "config.hujson"
    path.write_text(config({"apikey": "file:secret/key"}))
    loaded = load(path)
    assert loaded.config.providers["p"].apikey.value == f"{KEY}-v1"
    (tmp_path / "secret" / "..data_tmp").symlink_to("v2")
    (tmp_path / "secret" / "..data_tmp").rename(tmp_path / "secret" / "..data")
    async with aclosing(watch(lambda: loaded.watched, since=loaded.stamps)) as changes:
        await asyncio.wait_for(anext(changes), 30)
    assert load(path).config.providers["p"].apikey.value == f"{KEY}-v2"
