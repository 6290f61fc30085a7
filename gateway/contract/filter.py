"""Filters: plugins that can read and change calls, block them, or answer them.

- A filter is a module with `api = 1` and a function `open(call, settings)`. It is used only if the configuration names
  it under `plugins`. Calls pass the filters in the order of the configuration.
- The gateway calls `open` once for each call. `open` returns an object with any of the methods of `Filter`, or None if
  the call does not concern the filter.
- `open` and the methods may be `async`, for example to send HTTP requests (`call.http`). An `async` function must end
  within `SECONDS`.
- A function that is not `async` runs on the event loop, so it must not wait. With a large request, reply or text, it
  runs in a thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, Protocol

from gateway.contract.errors import BLOCKED, RATE_LIMIT, Problem, Refused
from gateway.contract.filter_values import Asked, Caller, CallView, Hold, HttpClient, HttpReply, Reply
from gateway.contract.places import Kind, Text
from gateway.contract.settings import Settings

SECONDS: Final = 10.0
"""Maximum number of seconds for one `async` method of a filter. A method that takes longer counts as a failure of the
filter."""


class Filter(Protocol):
    """The object that `open` returns for one call.

    - Every method is optional and may be `async`.
    - The filters of a call run in the order of the configuration. Each filter sees the changes that earlier filters
      made to the request or the reply.
    - Every method except `done` may raise `Refused` to end the call with an error. The functions `blocked` and
      `limited` make this exception.
    - Any other exception is a failure of the filter. An `async` method that takes longer than `SECONDS` is a failure
      too. After a failure, the gateway refuses the call if the module has `blocks = True`. Otherwise the call goes on
      without the filter. In both cases, `done` is still called.

    >>> class Stars:
    ...     def text(self, kind, piece, last):
    ...         return piece.replace("falcon", "***")
    >>> Stars().text("text", "a falcon", last=True)
    'a ***'
    """

    def request(self, asked: Asked) -> Asked | Reply | Awaitable[Asked | Reply | None] | None:
        """Check the request before it is sent to a provider.

        Return None to leave the request unchanged. Return a changed copy of `asked` to change the request. Return a
        `Reply` to answer the client without a provider.

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

        The gateway's own headers, such as the credential and configured headers, are not replaced. Headers about the
        connection or the body, such as `host`, are not allowed.

        >>> class Tenant:
        ...     def headers(self):
        ...         return {"x-tenant": "acme"}
        >>> Tenant().headers()
        {'x-tenant': 'acme'}
        """

    def text(self, kind: Kind, piece: str, last: bool) -> str | Hold | Awaitable[str | Hold]:
        """Return the text that replaces `piece`. To keep back the end of the text until the next piece, return a
        `Hold`.

        - In a stream, a piece may end inside a word. A block, such as one answer or one tool call, has many pieces.
        - The next piece of the same block begins with the text that was kept back.
        - `last` is true for the last piece of a block, and for every text of a reply that is not a stream. If `last` is
          true, no text can be kept back.

        >>> class Stars:
        ...     def text(self, kind, piece, last):
        ...         return hold(piece.replace("falcon", "***"), len("falcon") - 1, last)
        >>> Stars().text("text", "a falcon and a fal", last=False)
        Hold(text='a *** and ', rest='a fal')
        """

    def replied(self, reply: Reply) -> Awaitable[None] | None:
        """Receive the complete reply of a successful call, with the changes of the filters.

        For a stream, the gateway calls this after the last event. Then it is too late to refuse the reply: the client
        keeps it, and an exception of this method is only in the log and in the record. The gateway does not call this
        for a stream larger than `REPLIED_BYTES`, or for the operation `count_tokens`.

        >>> class Cache:
        ...     def replied(self, reply):
        ...         self.body, self.events = reply.body, reply.events
        >>> cache = Cache()
        >>> cache.replied(Reply(body=b'{"text": "hi"}'))
        >>> cache.body
        b'{"text": "hi"}'
        """

    def done(self, record: Mapping[str, Any]) -> Awaitable[None] | None:
        """Receive the record of the call. The gateway calls this once, however the call ended.

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
        """True if a call is refused when the filter fails. The configuration can override this with `on_error`.

        >>> blocks = True
        """

    @property
    def Settings(self) -> type[Settings]:  # noqa: N802 (a class of the module)
        """The class of the filter's settings. A filter without settings needs no such class.

        In the configuration, the settings are in `plugins`, under the filter's name. No field may have the name
        `on_error`, because the gateway reads this key itself.

        >>> class Settings(filters.Settings):
        ...     word: str
        >>> Settings(word="falcon").word
        'falcon'
        """

    def open(self, call: CallView, settings: Any) -> Filter | Awaitable[Filter | None] | None:
        """Return the object that handles the call, or None if the call does not concern the filter.

        `settings` is an instance of the module's `Settings`. To refuse the call, the function raises `blocked(...)`.

        >>> class Quota:
        ...     def __init__(self, login, usd):
        ...         self.login, self.usd = login, usd
        >>> def open(call, settings):
        ...     return Quota(call.caller.login, 5.0) if call.operation == "generate" else None
        >>> open(call, Settings()).login
        'ada@example.com'
        """

    def samples(self) -> Sequence[Any]:
        """Return instances of `Settings` or `FilterSample`, with which `irisgate plugins check NAME` tests the filter.

        >>> def samples():
        ...     return [FilterSample(Settings(), texts=("a falcon flies",))]
        >>> samples()[0].texts
        ('a falcon flies',)
        """


REPLIED_BYTES: Final = 8 * 1024 * 1024
"""Maximum size in bytes of a stream that is kept in memory for `replied`."""


def blocked(code: str, message: str) -> Refused:
    """Return the exception that ends a call with the status 403.

    `code` is a short name for programs. `message` is for the client. Both are logged, so they must not have a secret.

    >>> raise blocked("forbidden_word", "this word is not allowed here")
    Traceback (most recent call last):
        ...
    Refused: this word is not allowed here
    """
    return Refused(Problem(BLOCKED, message, reason=code, should_retry=False))


def limited(code: str, message: str, retry_after: float) -> Refused:
    """Return the exception that ends a call because of a limit.

    The client gets the status 429 and the header `retry-after`, in seconds. SDKs then try again by themselves.

    >>> refusal = limited("budget", "your budget of today is spent", retry_after=60)
    >>> refusal.problem.code, refusal.problem.retry_after
    ('rate_limit', 60)
    """
    return Refused(Problem(RATE_LIMIT, message, reason=code, retry_after=retry_after, retryable=True))


def hold(text: str, size: int, last: bool) -> str | Hold:
    """Return `text` with the final `size` characters held back. Return the whole text if it is the `last` piece.

    To find words of up to N characters that are split between two pieces, a filter holds back N - 1 characters.

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
