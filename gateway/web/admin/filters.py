"""Query parameters of lists: the filters of rows, and the refusal of unknown parameters.

`sessions.scope` decides whose rows a caller may see.
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
"""Maximum number of characters of a wrong name or value in an error message."""
_STATUS: Final = re.compile(r"[1-5][0-9]{2}")


class BadQuery(ValueError):
    """An error for a wrong query parameter. The message names the parameter."""


def check_names(query: MultiMapping[str], known: Sequence[str]) -> None:
    """Raise `BadQuery` if a parameter of the query is not in `known` or is given more than once."""
    for name in query:
        if name not in known:
            raise BadQuery(f"{name[:_MAX_SHOWN]}: is no parameter; there are {', '.join(known)}")
        if len(query.getall(name)) > 1:
            raise BadQuery(f"{name}: stands there more than once; keep one of them")


def filters(query: Mapping[str, str], names: Sequence[str]) -> dict[str, str | int]:
    """Return the values that rows must have, by column. An empty parameter counts as absent.

    Raises `BadQuery` if `status` is not an HTTP status.
    """
    given: dict[str, str | int] = {name: query[name] for name in names if query.get(name)}
    if (status := query.get("status")) and "status" in names:
        if not _STATUS.fullmatch(status):
            raise BadQuery(f'status: "{status[:_MAX_SHOWN]}" is no status of HTTP; write one such as 500')
        given["status"] = int(status)
    return given
