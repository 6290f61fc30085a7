"""The command `irisgate usage`: asks a running gateway, or reads the database of a gateway that is down.

Both sources give the same output as /api/usage. The database is opened read-only. It must have the schema of this
release, because only the gateway migrates an older database. The caller of `answer` prints the result.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from time import time
from typing import Any, Final
from urllib.parse import quote, urlencode

from gateway.store import usage
from gateway.store.base import GROUPS, HEADER, StoreFailed, TooManyCalls
from gateway.store.schema import require_this_schema
from gateway.web import asking
from gateway.web.usage.formats import as_csv, as_json
from gateway.web.usage.parameters import BadUsage, parse_parameters
from gateway.web.usage.table import table

__all__ = ["BadUsage", "NoUsage", "answer", "arguments", "ask", "parse_answer", "read"]

_FILTERS: Final = ("user", "model", "provider", "agent")
STORE: Final = "irisgate.db"
"""The name of the store's file in a state folder, unless `storage.url` names another file."""


class NoUsage(Exception):
    """The error if usage cannot be shown. The message gives the reason in one line."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to the parser. `answer` reads their values."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", default=asking.DEFAULT_URL, help="the gateway that is asked (default: %(default)s)")
    where.add_argument("--store", type=Path, metavar="FILE", help="the state file of a gateway that is down, read-only")
    parser.add_argument(
        "--by", default="user,model", metavar="NAMES", help=f"some of {','.join(GROUPS)} (default: %(default)s)"
    )
    parser.add_argument("--from", dest="first", default="", metavar="DAY", help="the first day, such as 2026-11-01")
    parser.add_argument("--to", dest="last", default="", metavar="DAY", help="the last day, which is included")
    for name in _FILTERS:
        parser.add_argument(f"--{name}", default="", help=f"the calls of one {name} only")
    parser.add_argument("--header", default="", metavar="TERM", help="the calls with a header, such as x-team:alpha")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="print CSV instead of a table")
    form.add_argument("--json", action="store_true", help="print what GET /api/usage answers")


def answer(options: argparse.Namespace) -> bytes:
    """Return the output of the command.

    Raises `BadUsage` if an option has a wrong value, and `NoUsage` if the gateway or the database cannot be read.
    """
    named = {"from": options.first, "to": options.last, "format": "csv" if options.csv else "json"}
    given = {**named, **{name: getattr(options, name) for name in ("by", *_FILTERS, HEADER)}}
    parameters = {name: value for name, value in given.items() if value}
    body = ask(options.url, parameters) if options.store is None else read(options.store, parameters)
    return body if options.csv or options.json else f"{table(parse_answer(body))}\n".encode()


def ask(url: str, parameters: Mapping[str, str]) -> bytes:
    """Return the answer of the gateway at `url`.

    Raises `BadUsage` before anything is sent if a parameter is wrong. Raises `NoUsage` if the URL is invalid, the
    gateway cannot be reached, or its answer is an error.
    """
    parse_parameters(parameters)
    try:
        return asking.ask(url, f"/api/usage?{urlencode(parameters)}")
    except asking.NoAnswer as error:
        raise NoUsage(str(error)) from None


def read(path: Path, parameters: Mapping[str, str]) -> bytes:
    """Return the usage in a store's file. The form is the same as in the gateway's answer to an admin.

    Raises `BadUsage` if a parameter is wrong, and `NoUsage` if the file cannot be read or has another schema.
    """
    wanted = parse_parameters(parameters, now=time())
    if path.is_dir():
        if not (path / STORE).is_file():
            raise NoUsage(f"--store {path}: is a folder: name the file {STORE} of a gateway's state folder")
        path /= STORE
    try:
        address = f"file:{quote(str(path.absolute()))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            require_this_schema(connection, str(path))
            rows = usage.read(connection, wanted.query)
    except StoreFailed as error:
        raise NoUsage(f"--store {error}") from None
    except TooManyCalls as error:
        raise NoUsage(f"--header: {error}") from None
    except (sqlite3.Error, ValueError) as error:
        raise NoUsage(f"--store {path}: cannot be read: {error}") from None
    return (as_csv if wanted.format == "csv" else as_json)(wanted, rows)


def parse_answer(answer: bytes) -> Mapping[str, Any]:
    """Return the decoded JSON of an answer, with fractions as `Decimal`.

    Raises `NoUsage` if the answer is not JSON, or does not come from a gateway of this release.
    """
    try:
        document = json.loads(answer, parse_float=Decimal)
    except ValueError:
        document = None
    if not isinstance(document, dict) or not {"usage", "by"} <= document.keys():
        raise NoUsage("what answered is no Irisgate of this release; look at --url")
    return document
