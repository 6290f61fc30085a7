"""The command `irisgate prices diff`: shows the differences between two price lists.

A price list is a table like the gateway's own (`gateway/money/prices/table.json`), or an operator's file with some rows
(the key `prices`). The caller of `differences` prints the result.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway.config.document.hujson import HujsonError, parse
from gateway.config.sections.prices import MAX_BYTES
from gateway.contract.capabilities import base_id, geo
from gateway.money.prices.differences import Differences, compare
from gateway.money.prices.report import report
from gateway.money.prices.rows import Entry, parse_row
from gateway.money.prices.table import BUILTIN_FILE

BUILT_IN: Final = "the built-in table"


class NoPrices(Exception):
    """The error for a file that is not a price list. The message gives the reason in one line."""


class PriceList(NamedTuple):
    """A price list."""

    name: str
    rows: Sequence[Entry]
    as_of: str
    """The day on which the list was built from its sources. It is "" for an operator's file."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add to the parser the command's arguments: the price lists to compare."""
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="a price list: compared with the built-in table, or, of two files, the earlier and the later list",
    )


def differences(files: Sequence[Path]) -> tuple[str, Differences]:
    """Return the differences between two price lists, as text and as values.

    If `files` has only one path, the gateway's own list is compared with the list in this file. If the last file is an
    operator's file, which has only some rows, rows that are missing in it are not reported. Raises `NoPrices` if a file
    is not a price list.
    """
    before = read(files[-2]) if len(files) > 1 else read(BUILTIN_FILE, BUILT_IN)
    after = read(files[-1])
    compared = compare(before.rows, after.rows, partial=not after.as_of)
    heading = f"{_named(before)} -> {_named(after)}"
    return f"{heading}\n{report(compared)}", compared


def read(path: Path, name: str = "") -> PriceList:
    """Return the price list in a file. Raises `NoPrices` if the file is not a price list.

    `name` names the list in messages. If it is "", the path is used.
    """
    name = name or str(path)
    document = _document(path, name)
    rows = document.get("rows")
    if not isinstance(rows, list):
        raise NoPrices(f'{name}: is no price list; it needs "rows"')
    as_of = document.get("as_of")
    return PriceList(name, [_row(row, f"{name}: rows[{index}]") for index, row in enumerate(rows)], str(as_of or ""))


def _document(path: Path, name: str) -> Mapping[str, Any]:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise NoPrices(f"{name}: is larger than {MAX_BYTES} bytes")
        value = _parse(data.decode("utf-8-sig"))
    except OSError as error:
        raise NoPrices(f"{name}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, HujsonError) as error:
        raise NoPrices(f"{name}: is no price list: {error}") from None
    if not isinstance(value, dict):
        raise NoPrices(f'{name}: is no price list; it needs "rows"')
    return value


def _parse(text: str) -> Any:
    """Return the value of a HuJSON document. Plain JSON is tried first, because its parser is faster. Raises
    `HujsonError` for malformed text.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return parse(text).value


def _row(row: Any, place: str) -> Entry:
    """Convert a row to the form of the built-in table. Raises `NoPrices` if the row has no model or a wrong price."""
    try:
        bedrock = row["book"] == "bedrock"
        model = base_id(row["model"]) if bedrock else row["model"]
        entry = {**row, "model": model, "geo": row.get("geo") or (geo(row["model"]) if bedrock else "")}
        parse_row(entry)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NoPrices(f"{place}: is no row of a price list: {error}") from None
    return entry


def _named(prices: PriceList) -> str:
    return f"{prices.name} of {prices.as_of}" if prices.as_of else prices.name
