"""Filters: plugins that can read and change calls, block them, or answer them.

A filter is a module with `api = 1` and a function `open(call, settings)`. It is off until the configuration names it
under `plugins`. The order there is the order in which calls pass the filters. `open` runs once for each call. It
returns None if the call does not concern the filter. Otherwise it returns an object with any of the methods of
`Filter`.

`open` and the methods may be `async`. Such a function may wait for its own HTTP requests (`call.http`), at most
`SECONDS`. All other methods must return at once, because they run on the event loop. Only with a large request, reply
or text do they run in a thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, Protocol

from gateway.contract.errors import BLOCKED, RATE_LIMIT, Problem, Refused
from gateway.contract.filter_values import Asked, Caller, CallView, Hold, HttpClient, HttpReply, Reply
from gateway.contract.places import Kind, Text
from gateway.contract.settings import Settings

SECONDS: Final = 10.0
"""Seconds for which a call waits for one `async` method of a filter. After this time, the method counts as failed."""


class Filter(Protocol):
    """The object that `open` returns for one call.

    In requests and in replies, each filter sees the changes of the filters that precede it in the configuration.

    Every method is optional and may be `async`. Every method except `done` may raise `Refused` to end the call with an
    error. `blocked` and `limited` make such exceptions. A filter fails if it raises any other exception, or if an
    `async` method takes longer than `SECONDS`. If its module has `blocks = True`, the call is then refused. Of a failed
    filter, only `done` is called.

    >>> class Stars:
    ...     def text(self, kind, piece, last):
    ...         return piece.replace("falcon", "***")
    >>> Stars().text("text", "a falcon", last=True)
    'a ***'
    """

    def request(self, asked: Asked) -> Asked | Reply | Awaitable[Asked | Reply | None] | None:
        """Check the request before anything is sent.

        Returns None to send it unchanged, a changed `Asked` to send that instead, or a `Reply` to answer without a
        provider.

        >>> class Guard:
        ...     def request(self, asked):
        ...         if any("falcon" in text.text for text in asked.texts):
        ...             raise blocked("forbidden_word", "this word is not allowed here")
        >>> Guard().request(asked)
        >>> Guard().request(asked.with_texts(["a falcon"]))
        Traceback (most recent call last):
            ...
        Refused: this word is not allowed here
        """

    def headers(self) -> Mapping[str, str] | Awaitable[Mapping[str, str]]:
        """Return headers to add to the request to the provider.

        The credential and configured headers take precedence. Headers about the connection or the body cannot be set.

        >>> class Tenant:
        ...     def headers(self):
        ...         return {"x-tenant": "acme"}
        >>> Tenant().headers()
        {'x-tenant': 'acme'}
        """

    def text(self, kind: Kind, piece: str, last: bool) -> str | Hold | Awaitable[str | Hold]:
        """Return the text that replaces `piece`, or a `Hold`.

        A piece may end anywhere in a word. After a `Hold`, the next piece begins with the text that was held. `last` is
        true at the end of a block, and for each text of an unstreamed reply. The filter cannot hold text then. Blocks
        of a stream may be interleaved, so text is held separately for each block and kind of text.

        >>> class Stars:
        ...     def text(self, kind, piece, last):
        ...         return hold(piece.replace("falcon", "***"), len("falcon") - 1, last)
        >>> Stars().text("text", "a falcon and a fal", last=False)
        Hold(text='a *** and ', rest='a fal')
        """

    def replied(self, reply: Reply) -> Awaitable[None] | None:
        """Receive the complete reply of a successful call, with the changes of the filters.

        For a stream, this is called after the last event was sent, but not if the stream is larger than
        `REPLIED_BYTES`. It is not called for a count of tokens.

        >>> class Cache:
        ...     def replied(self, reply):
        ...         self.body, self.events = reply.body, reply.events
        >>> cache = Cache()
        >>> cache.replied(Reply(body=b'{"text": "hi"}'))
        >>> cache.body
        b'{"text": "hi"}'
        """

    def done(self, record: Mapping[str, Any]) -> Awaitable[None] | None:
        """Receive the record of the call. This is called once for each opened object, however the call ended.

        >>> class Bill:
        ...     async def done(self, record):
        ...         print(record["identity"], record["cost_usd"])
        >>> await Bill().done(record)
        ada@example.com 0.5
        """


class FilterModule(Protocol):
    """The module of a filter.

    >>> api = 1
    >>> class Tenant:
    ...     def headers(self):
    ...         return {"x-tenant": "acme"}
    >>> def open(call, settings):
    ...     return Tenant() if call.provider == "acme" else None
    >>> open(call, Settings()).headers()
    {'x-tenant': 'acme'}
    """

    @property
    def api(self) -> int:
        """The major version of the contract for which the filter is written.

        >>> api = 1
        """

    @property
    def blocks(self) -> bool:
        """Whether a call is refused if the filter fails. `on_error` in the configuration takes precedence.

        >>> blocks = True
        """

    @property
    def Settings(self) -> type[Settings]:  # noqa: N802 (a class of the module)
        """The class of the filter's settings; the base class if the filter has none.

        In the configuration, the settings are under `plugins` and the filter's name. The key `on_error` there is for
        the gateway, so it cannot be a field of this class.

        >>> class Settings(filters.Settings):
        ...     word: str
        >>> Settings(word="falcon").word
        'falcon'
        """

    def open(self, call: CallView, settings: Any) -> Filter | Awaitable[Filter | None] | None:
        """Return the object that handles the call; None if the call does not concern the filter.

        `settings` is an instance of the module's `Settings`. Raises `Refused`, by `blocked`, to end the call.

        >>> class Quota:
        ...     def __init__(self, login, usd):
        ...         self.login, self.usd = login, usd
        >>> def open(call, settings):
        ...     return Quota(call.caller.login, 5.0) if call.operation == "generate" else None
        >>> open(call, Settings()).login
        'ada@example.com'
        """

    def samples(self) -> Sequence[Any]:
        """Return settings with which `irisgate plugins check NAME` tests the filter: `Settings` or `FilterSample`.

        A running gateway does not call this function.

        >>> def samples():
        ...     return [FilterSample(Settings(), texts=("a falcon flies",))]
        >>> samples()[0].texts
        ('a falcon flies',)
        """


REPLIED_BYTES: Final = 8 * 1024 * 1024
"""Maximum number of bytes of a stream's events that are kept for `replied`."""


def blocked(code: str, message: str) -> Refused:
    """Return the exception that ends a call with the status 403.

    `code` is for programs, and `message` for the client. The record and the log have both, so `message` must not quote
    a secret.

    >>> raise blocked("forbidden_word", "this word is not allowed here")
    Traceback (most recent call last):
        ...
    Refused: this word is not allowed here
    """
    return Refused(Problem(BLOCKED, message, reason=code, should_retry=False))


def limited(code: str, message: str, retry_after: float) -> Refused:
    """Return the exception that ends a call because of a limit, with the seconds after which it may be tried again.

    The client gets the status 429 and `retry-after`, so that SDKs try again by themselves.

    >>> refusal = limited("budget", "your budget of today is spent", retry_after=60)
    >>> refusal.problem.code, refusal.problem.retry_after
    ('rate_limit', 60)
    """
    return Refused(Problem(RATE_LIMIT, message, reason=code, retry_after=retry_after, retryable=True))


def hold(text: str, size: int, last: bool) -> str | Hold:
    """Return `text`, but hold back its last `size` characters if it is not the last piece.

    A filter that searches for words of at most N characters must hold N - 1, to find words that are split between
    pieces.

    >>> hold("the fal", 5, last=False)
    Hold(text='th', rest='e fal')
    >>> hold("the fal", 5, last=True)
    'the fal'
    """
    if last or not size:
        return text
    return Hold(text[:-size], text[-size:])


__all__ = [
    "REPLIED_BYTES", "SECONDS", "Asked", "CallView", "Caller", "Filter", "FilterModule", "Hold", "HttpClient",
    "HttpReply", "Kind", "Reply", "Settings", "Text", "blocked", "hold", "limited",
]  # fmt: skip
