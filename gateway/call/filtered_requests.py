"""Gives a client's request to the filters. Each filter may change it, block it, or answer it.

The texts of a large request are found and changed in a worker process (`text_work.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson
from msgspec.structs import replace

from gateway.call.filters import ActiveFilter, CallFilters, OpenFilter
from gateway.call.text_work import changed_request, is_large, request_texts, with_numbered_texts
from gateway.call.turns import Turns
from gateway.contract.definitions import definition
from gateway.contract.errors import BadFrame, PluginFailed, invalid
from gateway.contract.filter import Asked, Reply
from gateway.contract.filter_values import UNREADABLE
from gateway.contract.hooks import Hook
from gateway.contract.messages import ClientRequest
from gateway.contract.places import Places, Text
from gateway.upstream.process_pool import ProcessPool

_NONE: Final[Mapping[int, str]] = {}


class LargeAsked(Asked):
    """A large request whose texts a worker process has found.

    If filters change texts, a worker process will also put the new texts into the request.
    """

    __slots__ = ("_json", "_own", "changes", "given")

    def __init__(
        self,
        request: ClientRequest,
        places: Places | None,
        texts: tuple[Text, ...],
        json: frozenset[int],
        changes: Mapping[int, str] = _NONE,
    ) -> None:
        super().__init__(request, places)
        self.given = request
        """The request before filters changed its texts."""
        self.changes = changes
        """The changed texts, by their indexes in `texts`."""
        self._own = texts
        self._json = json
        """The indexes in `texts` of the texts that are JSON."""

    @property
    def request(self) -> ClientRequest:
        if not self.changes:
            return self.given
        return with_numbered_texts(Asked(self.given, self._places), self.changes.items())

    @property
    def texts(self) -> tuple[Text, ...]:
        return self._own

    def with_texts(self, texts: Sequence[str]) -> Asked:
        pairs = enumerate(zip(texts, self._own, strict=True))
        new = {number: text for number, (text, old) in pairs if text != old.text}
        if not new:
            return self
        for number in self._json & new.keys():
            orjson.loads(new[number])
        changed = [*self._own]
        for number, text in new.items():
            changed[number] = replace(changed[number], text=text)
        return LargeAsked(self.given, self._places, tuple(changed), self._json, {**self.changes, **new})


class Requests:
    """Gives one call's request to the filters, one after the other."""

    def __init__(self, filters: CallFilters, places: Hook, pool: ProcessPool, turns: Turns) -> None:
        self._filters = filters
        self._places = places
        self._pool = pool
        self._turns = turns

    async def filtered(self, request: ClientRequest) -> ClientRequest | Reply:
        """Return the request with the changes of all filters, or the reply of a filter that answers the call itself.

        Raises `Refused` if a filter blocks the call. Raises `PluginFailed` if a filter fails and the call must not
        continue without it.
        """
        for one in self._filters.opened:
            if one.method("request") is None:
                continue
            try:
                result = await self._asked(one, request)
            except PluginFailed as failure:
                self._filters.failed(one, failure)
                continue
            if isinstance(result, Reply):
                return result
            request = result
        return request

    async def _asked(self, one: OpenFilter, request: ClientRequest) -> ClientRequest | Reply:
        """Return the request with the changes of one filter, or the filter's reply.

        Raises `Refused` if the filter blocks the call, and `PluginFailed` if the filter fails.
        """
        large = is_large(request.top.body)
        if self._places.function is None:
            asked = Asked(request, None)
        else:
            asked = await self._read(request) if large else Asked(request, self._places.as_list)
        method = one.methods["request"]
        result = await one.run("request", method, asked, is_large=large)
        if isinstance(result, Reply):
            if request.stream is not bool(result.events):
                raise _wrong_reply(one.active, method, stream=request.stream)
            return result
        if not isinstance(result, LargeAsked):
            return request if result is None else result.request
        if not result.changes:
            return result.given
        return await changed_request(self._places, result.given, result.changes, self._pool, self._turns)

    async def _read(self, request: ClientRequest) -> LargeAsked:
        try:
            texts, json = await request_texts(self._places, request.top.body, self._pool, self._turns)
        except BadFrame:
            raise invalid(UNREADABLE) from None
        return LargeAsked(request, self._places.function, tuple(texts), json)


def _wrong_reply(active: ActiveFilter, method: Callable[..., Any], *, stream: bool) -> PluginFailed:
    """Return the error for a filter that answers a call with a body where events are needed, or with events where a
    body is needed.

    `stream` is true if the client asks for a stream, so that the filter should have answered with events.
    """
    expected = "events, because the client asks for a stream" if stream else "a body, because no stream is asked for"
    cause = f"returned a Reply of the other kind; it needs {expected}"
    return PluginFailed(active.name, "filter.request", cause, definition(method))
