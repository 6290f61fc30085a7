"""Passes pieces of text through the filters of a call (plugins that read and change calls).

The functions that call filters are generators (`awaiting.py`), so that an asyncio task is needed only if a filter must
be awaited. Most filters are plain functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import orjson

from gateway.call.awaiting import Work
from gateway.call.filters import CallFilters, OpenFilter
from gateway.call.text_blocks import Block
from gateway.call.text_work import LARGE_TEXT
from gateway.contract.definitions import definition
from gateway.contract.errors import PluginFailed
from gateway.contract.filter import SECONDS, Hold
from gateway.contract.plugin_functions import is_async
from gateway.upstream.process_pool import NO_DROP, ProcessPool


class _Run:
    """A filter that reads the text of one reply."""

    __slots__ = ("hook", "is_async", "method", "one")

    def __init__(self, one: OpenFilter, method: Callable[..., Any]) -> None:
        self.one = one
        self.hook = one.active.hooks["filter.text"]
        self.method = method
        self.is_async = is_async(method)

    def text_of(self, result: str | Hold, block: Block, whole: str, *, last: bool) -> str:
        """Return the text to pass on, and store the text that the filter holds back.

        `result` is what the filter returned for `whole`: the text that it held back before, followed by the new piece.
        If `last` is true, nothing more is held back. Raises `PluginFailed` if the filter returned text for an empty
        `whole`.
        """
        text, rest = (result, "") if isinstance(result, str) else result
        if last:
            text, rest = text + rest, ""
        if (text or rest) and not whole:
            raise self.failure("returned text for an empty piece while it held nothing")
        if rest:
            block.held[self] = rest
        return text

    def failure(self, cause: str) -> PluginFailed:
        return PluginFailed(self.hook.plugin, self.hook.name, cause, definition(self.method))


class Texts:
    """Passes the text of one reply through all filters that read text."""

    def __init__(self, filters: CallFilters, pool: ProcessPool) -> None:
        self._filters = filters
        self._pool = pool
        self._runs = [_Run(one, method) for one in filters.opened if (method := one.method("text")) is not None]

    def feed(
        self, block: Block, piece: str, runs: Sequence[_Run] | None = None, *, last: bool, is_json: bool = False
    ) -> str | Work[str]:
        """Give a piece of text to the filters, and return the text for the client.

        - `runs` are the filters that get the text. None stands for all filters.
        - `last` is true if no more text of `block` follows. `is_json` is true if the text is JSON.
        - If something must be awaited, a generator is returned in place of the text. When it is run (`awaiting.py`), it
          returns the text.
        - Raises `GatewayError` if a filter blocks the call or fails.
        """
        runs = self._runs if runs is None else runs
        for number, run in enumerate(runs):
            if block.held:
                piece = block.held.pop(run, "") + piece
            if run.one.failed:
                continue
            if run.is_async or is_json or len(piece) >= LARGE_TEXT:
                return self._fed_slowly(block, piece, runs[number:], last=last, is_json=is_json)
            try:
                result = run.hook.piece(run.method, block.kind, piece, last)
                if result is not piece:
                    piece = run.text_of(result, block, piece, last=last)
            except PluginFailed as failure:  # without the filter, the whole text is passed on
                self._filters.failed(run.one, failure)
        return piece

    def _fed_slowly(self, block: Block, piece: str, runs: Sequence[_Run], *, last: bool, is_json: bool) -> Work[str]:
        """Give a piece of text to the filters `runs`, and return the text for the client.

        `feed` calls this if the first of these filters must be awaited, or if the text is large or JSON.
        """
        run = runs[0]
        try:
            if len(piece) >= LARGE_TEXT:
                result = yield partial(run.one.run, "text", run.method, block.kind, piece, last, is_large=True)
            elif run.is_async:
                result = yield partial(run.hook.settled, run.method, block.kind, piece, last, seconds=SECONDS)
            else:
                result = run.hook.piece(run.method, block.kind, piece, last)
            if result is not piece:
                text = run.text_of(result, block, piece, last=last)
                if is_json and text != piece:
                    yield partial(self._require_json, text, run)
                piece = text
        except PluginFailed as failure:
            self._filters.failed(run.one, failure)
        rest = self.feed(block, piece, runs[1:], last=last, is_json=is_json)
        return rest if isinstance(rest, str) else (yield from rest)

    async def _require_json(self, text: str, run: _Run) -> None:
        if not await self._pool.run(len(text), NO_DROP, _is_json, text):
            raise run.failure("returned arguments that are not JSON")


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
