"""The check of query parameters, for pages and for the API: unknown and repeated names are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from multidict import MultiMapping

MAX_SHOWN: Final = 50
"""Maximum number of characters that an error message quotes from a wrong name or value of a query parameter."""


class BadQuery(ValueError):
    """An error for a wrong query parameter. The message names the parameter."""


def check_names(query: MultiMapping[str], known: Sequence[str]) -> None:
    """Raise `BadQuery` if a parameter of the query is not in `known` or is given more than once."""
    for name in query:
        if name not in known:
            raise BadQuery(f"{name[:MAX_SHOWN]}: is no parameter; there are {', '.join(known)}")
        if len(query.getall(name)) > 1:
            raise BadQuery(f"{name}: stands there more than once; keep one of them")
