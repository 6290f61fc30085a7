"""Query parameters that filter the rows of lists.

`sessions.scope` decides whose rows a caller may see.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.web.query_parameters import MAX_SHOWN, BadQuery

CALL_FILTERS: Final = ("provider", "model", "agent", "api", "operation", "status", "outcome", "error")
SESSION_FILTERS: Final = ("provider", "model", "agent")
PAGING: Final = ("limit", "cursor")

_STATUS: Final = re.compile(r"[1-5][0-9]{2}")


def filters(query: Mapping[str, str], names: Sequence[str]) -> dict[str, str | int]:
    """Return the filter in a query, such as {"model": "m", "status": 500}. Empty parameters are ignored.

    Raises `BadQuery` if `status` is not an HTTP status.
    """
    given: dict[str, str | int] = {name: query[name] for name in names if query.get(name)}
    if (status := query.get("status")) and "status" in names:
        if not _STATUS.fullmatch(status):
            raise BadQuery(f'status: "{status[:MAX_SHOWN]}" is no status of HTTP; write one such as 500')
        given["status"] = int(status)
    return given
