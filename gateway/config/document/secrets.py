"""Secrets: written as a literal, `env:NAME` or `file:PATH`, and resolved when the configuration is loaded.

A `Secret` cannot be shown by accident: its repr shows only its source, and only `value` returns the secret. It is not a
dataclass, because `dataclasses.asdict` would copy the secret.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 64 * 1024
"""Maximum size of a secret's file in bytes. Keys are shorter. A larger file was probably named by mistake."""

KEYFILE: Final = "keyfile::"
"""Prefix of an `apikey` that refers to a Google service account (`config/sections/service_accounts.py`).

The rest of the `apikey` is the path of the account's key file, or the JSON text of such a file. Requests to the
provider do not contain this key but an access token, which is obtained at run time.
"""

HELPER: Final = "exec:"
"""Prefix of a reference to a program that prints the key (`config/sections/key_helpers.py`). The program runs when a
key is needed."""
HELPER_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
"""Pattern for the file name of a program that prints a key."""

ENVIRONMENT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER_TEXT: Final = re.compile(r"[\x20-\x7e]*")


class SecretError(ValueError):
    """The error for a secret that cannot be used. Its message never shows the secret."""


class Secret:
    """A value that must not appear in a log, an error, a metric, a page or a reply."""

    __slots__ = ("_value", "source")

    def __init__(self, value: str = "", source: str = "literal") -> None:
        self._value = value
        self.source = source
        """The source of the secret: `literal`, `env:NAME` or `file:PATH`. The source is not secret."""

    @property
    def value(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self._value, self.source) == (other._value, other.source)

    def __hash__(self) -> int:
        return hash((self._value, self.source))

    def __repr__(self) -> str:
        return f"Secret({self.source})"


def resolve(text: str, folder: Path, environ: Mapping[str, str]) -> Secret:
    """Return the secret: `text` itself, or the value to which `text` refers. Relative paths are relative to `folder`.

    Raises `SecretError` if the secret cannot be read or cannot be sent in a header.
    """
    kind, colon, rest = text.partition(":")
    if colon and kind == "env":
        return _from_environment(rest, environ)
    if colon and kind == "file":
        return _from_file(text, folder)
    return Secret(_check_header_text(text, "it"))


def _from_environment(name: str, environ: Mapping[str, str]) -> Secret:
    if not ENVIRONMENT_NAME.fullmatch(name):
        raise SecretError('"env:" is followed by the name of an environment variable, such as "env:BEDROCK_KEY"')
    value = environ.get(name, "").strip()
    if not value:
        state = "empty" if name in environ else "not set"
        raise SecretError(f"the environment variable {name} is {state}; set it before the gateway starts")
    return Secret(_check_header_text(value, f"the environment variable {name}"), f"env:{name}")


def file_of(text: str, folder: Path) -> Path | None:
    """Return the file that `file:PATH` refers to, or None if the text has another form."""
    kind, _, name = text.partition(":")
    return folder / name if kind == "file" and name.strip() and name.isprintable() else None


def _from_file(text: str, folder: Path) -> Secret:
    path = file_of(text, folder)
    if path is None:
        raise SecretError('"file:" is followed by a path, such as "file:/run/secrets/bedrock-key"')
    return Secret(_check_header_text(file_text(path), f"the file {path}"), f"file:{path}")


def file_text(path: Path) -> str:
    """Return the text of a file that holds a key, without spaces and line breaks at its ends.

    Raises `SecretError` if the file cannot be read, is empty, is not a regular file, is not UTF-8 text, or is larger
    than `MAX_BYTES`.
    """
    try:
        # reading from a pipe or a device could block for ever
        if not stat.S_ISREG(path.stat().st_mode):
            raise SecretError(f"{path} is no regular file; write the key into one")
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        value = content.decode("utf-8-sig").strip()
    except (FileNotFoundError, NotADirectoryError, UnicodeEncodeError):
        raise SecretError(f"there is no file {path}; write the key into it, or correct the path") from None
    except OSError as error:
        raise SecretError(f"the file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SecretError(f"the file {path} is no text; it holds the key and nothing else") from None
    if not value:
        raise SecretError(f"the file {path} is empty; write the key into it")
    if len(content) > MAX_BYTES:
        raise SecretError(f"the file {path} is larger than {MAX_BYTES} bytes; it holds the key and nothing else")
    return value


def _check_header_text(value: str, what: str) -> str:
    """Return the value if it can be sent in a header.

    Raises `SecretError` for a line break, which would begin another header, and for other characters outside printable
    ASCII.
    """
    if not _HEADER_TEXT.fullmatch(value):
        raise SecretError(f"{what} holds a line break or a character outside printable ASCII; a key has neither")
    return value
