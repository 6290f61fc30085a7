"""Reads the parameters of lists: which rows are asked for, and a refusal for names that are no parameter.

Nothing here decides whose rows a caller may see: that is `sessions.scope`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from multidict import MultiMapping

CALL_FILTERS: Final = ("provider", "model", "agent", "api", "operation", "status", "outcome", "error")
SESSION_FILTERS: Final = ("provider", "model", "agent")
PAGING: Final = ("limit", "cursor")

_MAX_SHOWN: Final = 50
"""Characters of a wrong name or value that are repeated."""
_STATUS: Final = re.compile(r"[1-5][0-9]{2}")


class BadQuery(ValueError):
    """A parameter is wrong; the message names it."""


def check_names(query: MultiMapping[str], known: Sequence[str]) -> None:
    """Raise `BadQuery` for a name that is no parameter of the list, or that stands there twice."""
    for name in query:
        if name not in known:
            raise BadQuery(f"{name[:_MAX_SHOWN]}: is no parameter; there are {', '.join(known)}")
        if len(query.getall(name)) > 1:
            raise BadQuery(f"{name}: stands there more than once; keep one of them")


def filters(query: Mapping[str, str], names: Sequence[str]) -> dict[str, str | int]:
    """Return the columns that rows must have a value in; an empty value counts as left out. Raises `BadQuery`."""
    given: dict[str, str | int] = {name: query[name] for name in names if query.get(name)}
    if (status := query.get("status")) and "status" in names:
        if not _STATUS.fullmatch(status):
            raise BadQuery(f'status: "{status[:_MAX_SHOWN]}" is no status of HTTP; write one such as 500')
        given["status"] = int(status)
    return given
