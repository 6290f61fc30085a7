"""The exceptions of the gateway, and the `Problem` that each of them carries.

A `Problem` does not depend on the API format. The plugin of the client's API format turns the `Problem` into an error
that the client can read: with `Flag.error` before the reply begins, and with `Encoder.fail` within a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

INVALID_REQUEST: Final = "invalid_request"
"""The client's request is wrong. The message names the field, its value and a valid value."""
PERMISSION: Final = "permission"
"""Access is denied: the gateway refuses the caller, or the provider refuses the client's key or the model."""
BLOCKED: Final = "blocked"
"""A filter blocks the call. The problem's `reason` is the filter's own code."""
NOT_FOUND: Final = "not_found"
"""The model is unknown or not granted. The client does not learn which of the two is true."""
NO_ROUTE: Final = "no_route"
"""The gateway does not serve this path or method. The message names the right base URL, path or method."""
TOO_LARGE: Final = "too_large"
"""The request's body is over the limit."""
UNSUPPORTED_CODING: Final = "unsupported_coding"
"""The request's body has a content coding that is not accepted."""
REQUEST_TIMEOUT: Final = "request_timeout"
"""The request's body came too slowly."""
TIMEOUT: Final = "timeout"
"""The provider took too long."""
RATE_LIMIT: Final = "rate_limit"
"""There are too many requests. The problem's `retry_after` may have the seconds to wait."""
QUOTA: Final = "quota"
"""A quota of the caller is used up, or the account at the provider has no more credit."""
OVERLOADED: Final = "overloaded"
"""The provider is busy or warming up."""
UNAVAILABLE: Final = "unavailable"
"""The gateway cannot serve calls at the moment, or cannot reach the provider."""
UPSTREAM: Final = "upstream"
"""The provider refuses the gateway's key, or sends an invalid reply, or ends its reply too early."""
PLUGIN: Final = "plugin"
"""A plugin's code failed. The message names the plugin and the hook."""
INTERNAL: Final = "internal"
"""The gateway has a fault, or the provider reports an error that no other code describes."""

STATUS: Final[Mapping[str, int]] = {
    INVALID_REQUEST: 400,
    PERMISSION: 403,
    BLOCKED: 403,
    NOT_FOUND: 404,
    NO_ROUTE: 404,
    TOO_LARGE: 413,
    UNSUPPORTED_CODING: 415,
    REQUEST_TIMEOUT: 408,
    TIMEOUT: 504,
    RATE_LIMIT: 429,
    QUOTA: 429,
    OVERLOADED: 503,
    UNAVAILABLE: 503,
    UPSTREAM: 502,
    PLUGIN: 500,
    INTERNAL: 500,
}
"""The HTTP status for each error code. An API format may use another status."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error in the form that all API formats share.

    >>> problem = Problem(RATE_LIMIT, "slow down", native="ThrottlingException", status=429, retry_after=3.0)
    >>> problem.code, problem.retry_after
    ('rate_limit', 3.0)
    """

    code: str
    """The kind of the error: one of the codes of this module, such as `INVALID_REQUEST`."""
    message: str
    """The message for the client. A provider's message stays unchanged, because some clients search it for keywords."""
    native: str = ""
    """The provider's own name for the error, such as `ThrottlingException`. It is "" for an error of the gateway."""
    status: int = 0
    """The provider's HTTP status. It is 0 for an error of the gateway.

    A provider can also report an error within a stream, after the status 200. Then this is the status that the provider
    sends for the same error without a stream.
    """
    retry_after: float | None = None
    """Seconds that the client should wait before it tries again. The value is None if unknown."""
    retryable: bool = False
    """True if the same request may succeed later."""
    should_retry: bool | None = None
    """The value of the provider's header `x-should-retry`. It is None without this header."""
    reason: str = ""
    """The cause in one word, such as `no_such_host`. If `native` is "", the record of the call has this word as
    `error_native`.
    """
    key_refused: bool = False
    """True if the provider refused the API key itself. It would refuse other requests with this key too."""
    param: str = ""
    """The wrong field of the request, such as `messages[0].content`. It is "" if the error is not in one field."""
    accept_encoding: str = ""
    """The content codings that the gateway accepts, for an error with the code `UNSUPPORTED_CODING`. The value is ""
    otherwise.

    The error reply has this value in its header `accept-encoding`.
    """


class GatewayError(Exception):
    """Base of all errors that a client may see.

    >>> try:
    ...     raise invalid("n must be 1", "n")
    ... except GatewayError as error:
    ...     print(error.problem.code, error.problem.param)
    invalid_request n
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem

    def __reduce__(self) -> tuple[Callable[..., GatewayError], tuple[type[GatewayError], dict[str, Any]]]:
        """Return the type and the attributes for pickling, because each subclass has other constructor arguments."""
        return _restored, (type(self), self.__dict__)


def _restored(kind: type[GatewayError], state: dict[str, Any]) -> GatewayError:
    error = kind.__new__(kind, state["problem"].message)
    error.__dict__.update(state)
    return error


class Refused(GatewayError):
    """The exception with which the gateway or a plugin refuses a call.

    >>> raise Refused(Problem(TOO_LARGE, "send at most 10 images"))
    Traceback (most recent call last):
        ...
    Refused: send at most 10 images
    """


class PluginFailed(GatewayError):
    """A failure of a plugin: an exception that the contract does not allow, or a result of a wrong type.

    Only the gateway raises this error. `place` is the file and line of the code that raised the exception. For a wrong
    result, it is the file and line in which the function is defined. `trace` is a traceback. It is "" for a wrong
    result. The client sees neither `place` nor `trace`.

    >>> PluginFailed("guard", "request", "KeyError: 'word'", "guard.py:7").problem.reason
    'guard.request'
    """

    def __init__(self, plugin: str, hook: str, cause: str, place: str, trace: str = "") -> None:
        message = f'plugin "{plugin}" failed in {hook}; the gateway\'s log has the cause under the request id'
        super().__init__(Problem(PLUGIN, message, reason=f"{plugin}.{hook}", should_retry=False))
        self.plugin = plugin
        self.hook = hook
        self.cause = cause
        self.place = place
        self.trace = trace


MAX_RAW: Final = 1024 * 1024
"""Maximum size in bytes of a provider's error that clients get unchanged.

In place of a larger error, clients get an error that the gateway makes from the `Problem`."""


class UpstreamFailed(GatewayError):
    """An error that the provider reported, or a reply that ended too early.

    `raw` is the provider's error: the body of an error reply, or a frame of a stream. A client with the provider's API
    format gets `raw` unchanged. `status` and `headers` are those of the error reply. They are only used if `raw` is its
    body.

    >>> failed = UpstreamFailed(Problem(OVERLOADED, "try later", status=503), raw=b'{"error": "busy"}', status=503)
    >>> failed.problem.message, failed.raw
    ('try later', b'{"error": "busy"}')
    """

    def __init__(
        self, problem: Problem, raw: bytes = b"", headers: Mapping[str, str] | None = None, status: int = 0
    ) -> None:
        super().__init__(problem)
        self.raw = raw if len(raw) <= MAX_RAW else b""
        self.headers = headers or {}
        self.status = status


class NotReached(UpstreamFailed):
    """A connection that failed before the request was sent. The provider cannot have charged anything.

    Only the gateway raises this error.

    >>> NotReached(Problem(UNAVAILABLE, "the provider cannot be reached", reason="no_such_host")).problem.reason
    'no_such_host'
    """


class Truncated(UpstreamFailed):
    """A stream that ended before its terminal event or inside a frame.

    >>> raise Truncated
    Traceback (most recent call last):
        ...
    Truncated: the provider's stream ended before its final event
    """

    def __init__(self, message: str = "the provider's stream ended before its final event") -> None:
        super().__init__(Problem(UPSTREAM, message, retryable=True))


class Stalled(UpstreamFailed):
    """The error for a provider that sends nothing for too long, or for a stream that lasts too long.

    Only the gateway raises this error.

    >>> Stalled(Problem(TIMEOUT, "the provider sent nothing for 60 s")).problem.code
    'timeout'
    """


class BadFrame(UpstreamFailed):
    """Invalid data in the provider's reply, such as a wrong checksum, an impossible length or text that is not JSON.

    >>> raise BadFrame("the provider's stream has a line that is not JSON")
    Traceback (most recent call last):
        ...
    BadFrame: the provider's stream has a line that is not JSON
    """

    def __init__(self, message: str) -> None:
        super().__init__(Problem(UPSTREAM, message, retryable=True))


def invalid(message: str, param: str = "") -> Refused:
    """Return the exception that refuses a wrong request.

    `message` says how to correct the request. `param` is the name of the wrong field.

    >>> raise invalid("n must be 1", "n")
    Traceback (most recent call last):
        ...
    Refused: n must be 1
    """
    return Refused(Problem(INVALID_REQUEST, message, param=param))
