"""Runs the filters of a call: on the request before quotas are charged, and on the reply in the client's dialect (API
format).

A filter is a plugin that may read, change, block or answer a call. If a filter answers a call itself, no provider is
called and nothing is charged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import msgspec
from msgspec.structs import replace

from gateway.call.chain import Call, Next
from gateway.call.filtered_replies import FilteredStream, filtered_body
from gateway.call.filtered_requests import Requests
from gateway.call.filters import AfterCalls, CallFilters
from gateway.call.plugin_reports import PluginReports
from gateway.call.responses import Batch, Batches, Response, Stage, Stream, Take, Whole
from gateway.call.text_work import is_large
from gateway.call.turns import Turns
from gateway.contract.errors import GatewayError, PluginFailed
from gateway.contract.filter import REPLIED_BYTES, Caller, CallView, Reply
from gateway.contract.flag import COUNT_TOKENS
from gateway.contract.messages import Event
from gateway.upstream.fetch.client import Fetcher
from gateway.upstream.fetch.filter_client import FilterClient
from gateway.upstream.process_pool import LARGE, ProcessPool


class Filters(msgspec.Struct, frozen=True):
    fetcher: Fetcher
    pool: ProcessPool
    reports: PluginReports
    after: AfterCalls
    turns: Turns

    def __call__(self, call: Call, following: Next) -> Awaitable[Response]:
        return self._filtered(call, following) if call.runtime.filters else following(call)

    async def _filtered(self, call: Call, following: Next) -> Response:
        """Pass the request through the filters, run the next step, and return the filtered response.

        Raises `Refused` if a filter blocks the call. Raises `PluginFailed` if a filter fails and the call must not
        continue without it.
        """
        filters = await self._open(call)
        if not filters.opened:
            return await following(call)
        _require_places(call, filters)
        if filters.reads("request"):
            requests = Requests(filters, call.flag.hooks["places"], self.pool, self.turns)
            result = await requests.filtered(call.request)
            if isinstance(result, Reply):
                return _answer(result)
            call.request = result
        for headers in await filters.ask("headers"):
            call.filter_headers.update({name.lower(): value for name, value in headers.items()})
        return await self._reply(call, filters, await following(call))

    async def _open(self, call: Call) -> CallFilters:
        candidate = call.candidates[0]
        identity = call.identity
        client = FilterClient(self.fetcher, call.runtime.config.server.fetch)
        filters = call.filters = CallFilters(call.id, client, self.reports, self.after)
        view = CallView(
            id=call.id,
            caller=Caller(identity.login, identity.groups, identity.tags, identity.node),
            session=call.session_id,
            provider=candidate.offer.provider_id,
            model=candidate.offer.model,
            flag=call.flag.name,
            operation=call.operation,
            request=call.request,
            http=client,
        )
        for active in call.runtime.filters:
            await filters.open(active, view)
        return filters

    async def _reply(self, call: Call, filters: CallFilters, response: Response) -> Response:
        """Return the response with filtered texts. Also give the complete reply to the filters that read it."""
        places, reads = call.flag.hooks["places"], filters.reads("text")
        replied = filters.reads("replied") and call.operation != COUNT_TOKENS
        match response:
            case Whole(body=body):
                if reads:
                    body = await filtered_body(filters, places, body, self.pool, self.turns)
                if replied:
                    await filters.ask("replied", Reply(body=body), is_large=is_large(body))
                return replace(response, body=body)
            case Stream():
                if reads:
                    response = response.through(FilteredStream(filters, places, self.pool, self.turns))
                return response.through(_Replied(call, filters)) if replied else response


def _require_places(call: Call, filters: CallFilters) -> None:
    """Check whether the plugin of the client's API format can find the texts of a reply.

    If the plugin cannot do this, all filters that read text fail here, before a provider is called. Raises
    `PluginFailed` if the call must not continue without one of these filters.
    """
    if call.flag.hooks["places"].function is not None:
        return
    cause = "is missing, so that no filter can read the text of replies"
    for one in filters.opened:
        if one.method("text") is not None:
            filters.failed(one, PluginFailed(call.flag.name, "places", cause, ""))


def _answer(reply: Reply) -> Response:
    """Return the response for `reply`, the answer of a filter."""
    if not reply.events:
        return Whole(200, {}, reply.body)
    return Stream(200, {}, _Answer(reply.events))


class _Answer(msgspec.Struct, frozen=True):
    """The source of a stream whose events are a filter's own answer to the call."""

    events: tuple[Event, ...]

    async def batches(self, _take: Take) -> Batches:
        yield Batch([Event(event.kind, event.payload) for event in self.events])


class _Replied(Stage):
    """Collects the events of a stream. At its end, gives them to the method `replied` of the filters, if the stream was
    successful and is not too large.

    By then, the client has received the whole reply. So an error or a refusal by `replied` cannot be sent. It is logged
    and put into the record.
    """

    __slots__ = ("_call", "_events", "_filters", "_size")

    def __init__(self, call: Call, filters: CallFilters) -> None:
        self._call = call
        self._filters = filters
        self._events: list[Event] = []
        self._size = 0

    def feed(self, batch: Batch) -> Batch:
        if self._size <= REPLIED_BYTES:
            shown = [event for event in batch.events if event.raw != b"" and event.payload]
            self._size += sum(len(event.payload) for event in shown)
            self._events += [Event(event.kind, event.payload) for event in shown]
        return batch

    async def close(self) -> Sequence[Batch]:
        if self._size <= REPLIED_BYTES:
            is_large = self._size >= LARGE
            try:
                await self._filters.ask("replied", Reply(events=tuple(self._events)), is_large=is_large)
            except GatewayError as failure:
                self._filters.reports.report(failure, self._call.id)
                self._call.problem = failure.problem
        return ()
