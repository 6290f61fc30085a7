"""The result of a check, and the reports for people and for programs.

The checks themselves are in the other files of this folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from gateway.config.findings import escape_control

REPAIR: Final = "stop the gateway and run irisgate doctor --repair"
"""Advice for a fault that `irisgate doctor --repair` can repair."""
State = Literal["ok", "warning", "error", "repaired"]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one check."""

    check: str
    state: State
    message: str
    remedy: str = ""
    """Advice for the operator. It is "" if nothing needs to be done."""


def ok(check: str, message: str) -> Result:
    return Result(check, "ok", message)


def warning(check: str, message: str, remedy: str) -> Result:
    return Result(check, "warning", message, remedy)


def error(check: str, message: str, remedy: str) -> Result:
    return Result(check, "error", message, remedy)


def repaired(check: str, message: str) -> Result:
    return Result(check, "repaired", message)


def report(results: Sequence[Result]) -> str:
    """Return the results as text, one line each."""
    return "\n".join(_line(result) for result in results)


def _line(result: Result) -> str:
    remedy = f"; {result.remedy}" if result.remedy else ""
    return escape_control(f"{result.state:<9}{result.check}: {result.message}{remedy}".replace("\n", " "))


def as_json(results: Sequence[Result]) -> str:
    """Return the results as JSON."""
    checks = [
        {"check": each.check, "state": each.state, "message": each.message, "remedy": each.remedy} for each in results
    ]
    return json.dumps({"healthy": is_healthy(results), "checks": checks}, indent=2)


def is_healthy(results: Sequence[Result]) -> bool:
    """Return whether every check has passed or was repaired."""
    return all(result.state in {"ok", "repaired"} for result in results)
