"""The command `irisgate providers`: prints the health of each model at each provider of a running gateway, and which
providers did not list their models.

Unprintable characters in messages of providers are shown as "?", because they could move a terminal's cursor. The
caller of `answer` prints the result.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from time import time
from typing import Any, Final

from gateway.web import asking

PATH: Final = "/api/providers/health"
MAX_ERROR: Final = 160
"""Maximum number of characters of an error that the table shows. `--json` prints the whole error."""
_HEAD: Final = ("provider", "model", "state", "failed", "last success", "last error")
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"))


class NoHealth(Exception):
    """The error if the health cannot be shown. The message gives the reason in one line."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add to the parser the options that `answer` reads."""
    parser.add_argument("--url", default=asking.DEFAULT_URL, help="the gateway that is asked (default: %(default)s)")
    parser.add_argument("--provider", default="", help="the models of one provider only")
    parser.add_argument("--json", action="store_true", help=f"print what GET {PATH} answers")


def answer(options: argparse.Namespace) -> bytes:
    """Return the output of the command `irisgate providers`. Raises `NoHealth` if the gateway does not answer."""
    try:
        body = asking.ask(options.url, PATH)
    except asking.NoAnswer as error:
        raise NoHealth(str(error)) from None
    rows, lists = [
        [each for each in some if options.provider in {"", each["provider"]}] for some in _rows_and_lists(body)
    ]
    if options.json:
        return json.dumps({"providers": rows, "lists": lists}, indent=2).encode()
    return "\n".join([table(rows, time()), *unlisted(lists, time())]).encode()


def table(rows: Sequence[Mapping[str, Any]], now: float) -> str:
    """Return the table for the terminal, without a newline at the end. `now` is a Unix time in seconds.

    `rows` are the models in the gateway's answer.
    """
    if not rows:
        return "no models"
    lines = [_HEAD, *(_line(row, now) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def unlisted(lists: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    """Return a line for each provider that did not list its models when it was asked last."""
    lines = []
    for each in lists:
        if not each["is_current"]:
            kept = f"the list of {_ago(each['listed_at'], now)} is in use" if each["listed_at"] else "it has no list"
            reason = f": {_printable(each['failure'], MAX_ERROR)}" if each["failure"] else ""
            lines.append(f"{_printable(each['provider'], MAX_ERROR)} did not list its models ({kept}){reason}")
    return lines


def _line(row: Mapping[str, Any], now: float) -> tuple[str, ...]:
    error = row["last_error"]
    words = "" if error is None else f"{_ago(error['at'], now)}: {error['code']}"
    if error is not None and error["message"]:
        words += f": {error['message']}"
    failed = f"{row['failures']} of {row['calls']}" if row["calls"] else "-"
    texts = (row["provider"], row["model"], row["summary"], failed, _ago(row["last_success_at"], now), words or "none")
    return tuple(_printable(text, MAX_ERROR if text is words else len(text)) for text in texts)


def _ago(at: str | None, now: float) -> str:
    """Return the age of a time in words."""
    if at is None:
        return "never"
    age = max(0, int(now - datetime.fromisoformat(at).timestamp()))
    for seconds, unit in _UNITS:
        if age >= seconds:
            return f"{age // seconds} {unit} ago"
    return f"{age} s ago"


def _printable(text: str, most: int) -> str:
    shortened = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(character if character.isprintable() else "?" for character in shortened)


def _rows_and_lists(body: bytes) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return two lists from the gateway's answer: the health of each model at each provider, and the state of each
    provider's list of models.

    Raises `NoHealth` if the answer does not have the form of this release.
    """
    try:
        answer = json.loads(body)
        rows, lists = answer["providers"], answer["lists"]
        # the columns of the table are the ones that must be there
        _ = [(row["provider"], row["model"], row["summary"], row["failures"], row["calls"]) for row in rows]
        _ = [(each["provider"], each["is_current"], each["listed_at"], each["failure"]) for each in lists]
    except (ValueError, KeyError, TypeError):
        raise NoHealth("what answered is no Irisgate of this release; look at --url") from None
    return list(rows), list(lists)
