"""Terms that filter calls by a recorded header, and the right to use such a filter.

The term `x-team` stands for calls that have this header, and `x-team:alpha` for calls with this value of the header.
The configuration names the recorded headers (`database.filterable`). No role includes the right to filter by a header,
so a grant must give it (`filterable_headers`). Whoever may see a call may see the values of its headers.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.contract.http_headers import HEADER_NAME, header_value
from gateway.store.base import HEADER
from gateway.web.query_parameters import MAX_SHOWN, BadQuery


class HeaderRights(msgspec.Struct, frozen=True):
    """The headers by which one reader may filter."""

    recorded: tuple[str, ...]
    """Names of all recorded headers."""
    is_granted: Callable[[str], bool]
    """A function that returns whether a grant lets the reader filter by a header."""

    @property
    def names(self) -> tuple[str, ...]:
        """The recorded headers by which the reader may filter."""
        return tuple(filter(self.is_granted, self.recorded))

    def refusal(self, term: str) -> str:
        """Return "" if a grant lets the reader filter by a term (`x-team` or `x-team:alpha`). If no grant does, return
        the reason for the refusal.

        Raises `BadQuery` if a grant allows the filter, but the header is not recorded.
        """
        name = term.partition(":")[0]
        if not self.is_granted(name):
            return f'access denied: no grant lets you filter by the header "{name[:MAX_SHOWN]}" (filterable_headers)'
        if name not in self.recorded:
            known = ", ".join(self.names) or "none"
            raise BadQuery(f'{HEADER}: "{name[:MAX_SHOWN]}" is not recorded; the headers to filter by are: {known}')
        return ""


def parse_term(text: str) -> str:
    """Return a term (`x-team` or `x-team:alpha`) in normal form: with the header's name in lower case, and with the
    value in the form in which it is recorded.

    Raises `BadQuery` if the text does not begin with the name of a header.
    """
    name, colon, value = text.partition(":")
    if not HEADER_NAME.fullmatch(name.strip()):
        raise BadQuery(f'{HEADER}: "{text[:MAX_SHOWN]}" names no header; write "x-team" or "x-team:alpha"')
    return f"{name.strip().lower()}{colon}{header_value(value)}"
