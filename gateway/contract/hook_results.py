"""Checks of the results of plugins' hooks, and of the errors that hooks raise.

A check raises `WrongResult`. It examines types, statuses, headers and numbers of tokens, which the gateway then uses
without another check.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, Final, NamedTuple, get_args
from weakref import WeakSet

from gateway.contract.billing import BilledPart, File, FileKind, Search
from gateway.contract.errors import STATUS, GatewayError, Problem, UpstreamFailed
from gateway.contract.facts import USAGE_KINDS, Facts, Part, Usage
from gateway.contract.filter import Asked, Hold, Reply
from gateway.contract.filter_checks import opened_fault
from gateway.contract.http_headers import FRAMING, HEADER_NAME
from gateway.contract.members import Members
from gateway.contract.messages import ClientRequest, Event, Fetch, StepResponse, UpstreamRequest, Work
from gateway.contract.model_lists import DiscoveredModel, ModelSearch
from gateway.contract.plugin_functions import is_async
from gateway.contract.session_ids import SessionIds

MAX_COUNT: Final = 2**53
"""Maximum number of tokens or nanodollars in a report. JavaScript cannot represent larger integers exactly."""


class WrongResult(Exception):
    """A result that the contract does not allow."""


def is_valid_error(error: GatewayError) -> bool:
    """Return whether the values of an error that a plugin raised have the right types."""
    if not _is_problem(getattr(error, "problem", None)):
        return False
    if not isinstance(error, UpstreamFailed):
        return True
    return type(error.raw) is bytes and type(error.status) is int and _are_headers(error.headers)


def require(is_right: bool, result: Any, expected: str) -> None:
    """Raise `WrongResult` if `is_right` is false. `expected` describes a right result."""
    if not is_right:
        raise wrong_result(result, expected)


def wrong_result(result: Any, expected: str) -> WrongResult:
    if inspect.iscoroutine(result):
        result.close()  # a coroutine that is neither awaited nor closed causes a warning
    return WrongResult(f"returned {type(result).__name__}; {expected} is expected")


def _of_type(kind: type, *others: type | None) -> Callable[[Any], None]:
    kinds = (kind, *(type(None) if other is None else other for other in others))
    names = " or ".join("None" if one is type(None) else one.__name__ for one in kinds)

    def check(result: Any) -> None:
        # True is an int, but no number of tokens
        if type(result) not in kinds and not (isinstance(result, kinds) and not isinstance(result, bool)):
            require(False, result, names)

    return check


def _with_methods(*names: str) -> Callable[[Any], None]:
    """Return a check for an object that must have these methods. Each class is checked once."""
    checked: WeakSet[type] = WeakSet()

    def check(result: Any) -> None:
        kind = type(result)
        if kind in checked:
            return
        if isinstance(result, type):
            raise WrongResult(f"returned the class {result.__name__}; an object of it is expected")
        for name in names:
            method = getattr(result, name, None)
            require(callable(method), result, f"an object with a method {name}")
            require(not is_async(method), result, f"an object whose method {name} is not async")
        checked.add(kind)

    return check


_BILLED: Final = get_args(BilledPart)
_BILLED_NAMES: Final = f"one of {', '.join(kind.__name__ for kind in _BILLED)} for each part"
_FILE_KINDS: Final = get_args(FileKind)
_COUNTS: Final = f"with whole numbers from 0 to {MAX_COUNT}"
_FILE_NAMES: Final = f"File whose kind is one of {', '.join(_FILE_KINDS)}"


def _billed_parts(result: Any) -> None:
    for part in result:
        require(isinstance(part, _BILLED), part, _BILLED_NAMES)
        numbers: Iterable[int] = part
        match part:
            case File(kind, size):
                require(kind in _FILE_KINDS, part, _FILE_NAMES)
                numbers = (size,)
            case Search(most, is_paid):
                require(isinstance(is_paid, bool), part, "Search whose is_paid is a boolean")
                numbers = (most,)
        require(all(map(_is_count, numbers)), part, f"{type(part).__name__} {_COUNTS}")


def _decoder(result: Any) -> None:
    _decoder_methods(result)
    require(hasattr(result, "done"), result, "an object with an attribute done")


_decoder_methods = _with_methods("feed", "close", "whole")
_bytes = _of_type(bytes)


def _client_request(result: Any) -> None:
    if not isinstance(result, ClientRequest):
        raise wrong_result(result, "ClientRequest")
    texts = (result.flag, result.dialect, result.operation, result.method, result.path, result.query, result.model)
    is_right = _joined(texts) is not None and type(result.stream) is bool and isinstance(result.top, Members)
    if not (is_right and isinstance(result.without, tuple)):
        raise _wrong_field(result, _CLIENT_REQUEST)


_HEADERS: Final = "headers whose names and values are text of one line"
_TEXTS: Final = dict.fromkeys(("method", "path", "query"), str)
_UPSTREAM_REQUEST: Final = {**_TEXTS, "body": bytes}
_CLIENT_REQUEST: Final = {
    **dict.fromkeys(("flag", "dialect", "operation", "model"), str), **_TEXTS,
    "top": Members, "stream": bool, "without": tuple,
}  # fmt: skip


def _wrong_field(result: Any, types: Mapping[str, type], otherwise: str = _HEADERS) -> WrongResult:
    """Return the error for the first field of `result` that has a wrong type.

    `types` has the right type of each field. If all types are right, the error says that the result needs `otherwise`.
    """
    kind = type(result).__name__
    for name, expected in types.items():
        if not isinstance(value := getattr(result, name), expected):
            return WrongResult(
                f"returned {kind} whose {name} is {type(value).__name__}; {expected.__name__} is expected"
            )
    return WrongResult(f"returned {kind} with a wrong value; it needs {otherwise}")


def _opening(result: Any) -> None:
    is_pair = isinstance(result, tuple) and len(result) == 2
    if not (result is None or (is_pair and _joined(result) is not None)):
        raise wrong_result(result, "a pair of texts or None")


def _upstream_request(result: Any) -> None:
    if not isinstance(result, UpstreamRequest):
        raise wrong_result(result, "UpstreamRequest")
    is_right = _joined((result.method, result.path, result.query)) is not None and isinstance(result.body, bytes)
    if not (is_right and _are_headers(result.headers)):
        raise _wrong_field(result, _UPSTREAM_REQUEST)
    # the path follows the host of the provider's base URL, so anything but a slash could name another host
    if not (result.path.startswith("/") and result.path.isprintable()):
        raise WrongResult("returned UpstreamRequest whose path is wrong; one line that begins with / is expected")


def _steps(result: Any) -> None:
    if isinstance(result, ClientRequest):
        _client_request(result)
    else:
        require(isinstance(result, Generator), result, "a generator or ClientRequest")


def _step(result: Any) -> None:
    """Check a value that the generator of `steps` yields."""
    match result:
        case UpstreamRequest():
            _upstream_request(result)
        case Fetch():
            if not (isinstance(result.url, str) and isinstance(result.max_bytes, int)):
                raise _wrong_field(result, {"url": str, "max_bytes": int})
        case Work():
            require(callable(result.function), result, "Work with a function")
        case _:
            require(False, result, "UpstreamRequest, Fetch or Work")


def _step_result(result: Any) -> None:
    """Check the value that the generator of `steps` returns."""
    if not isinstance(result, StepResponse):
        _client_request(result)
        return
    if not _is_status(result.status, 200):
        raise WrongResult("returned StepResponse whose status is wrong; a number of 200 to 599 is expected")
    if not (isinstance(result.body, bytes) and _are_headers(result.headers)):
        raise _wrong_field(result, {"body": bytes})


def _search(result: Any) -> None:
    if result is not None:
        require(isinstance(result, ModelSearch), result, "ModelSearch or None")
        require(isinstance(result.pages, Generator), result.pages, "ModelSearch whose pages are a generator")
        require(isinstance(result.subdomain, str), result.subdomain, "ModelSearch whose subdomain is text")


def _models(result: Any) -> None:
    """Check the value that the generator of a `ModelSearch` returns."""
    require(isinstance(result, Sequence), result, "a sequence of DiscoveredModel")
    for model in result:
        require(isinstance(model, DiscoveredModel), model, "DiscoveredModel for each model")
        if _joined((model.name, model.base)) is None:
            raise _wrong_field(model, {"name": str, "base": str})


class Checks(NamedTuple):
    """The checks of a generator's yielded values and of its result."""

    yielded: Callable[[Any], None]
    result: Callable[[Any], None]


OF_STEPS: Final = Checks(_step, _step_result)
OF_SEARCH: Final = Checks(_upstream_request, _models)


def _changed_request(result: Any) -> None:
    if result is not None:
        _client_request(result)


def _problem(result: Any) -> None:
    if not (result is None or _is_problem(result)):
        raise wrong_result(result, "Problem or None")


def _limit(result: Any) -> None:
    if not (result is None or type(result) is int):
        raise wrong_result(result, "int or None")


def _error(result: Any) -> None:
    require(isinstance(result, tuple) and len(result) == 3, result, "a tuple of status, headers and body")
    status, headers, body = result
    require(_is_status(status, 400), status, "a status of 400 to 599")
    require(_are_headers(headers), headers, _HEADERS)
    require(isinstance(body, bytes), body, "bytes")


def _headers(result: Any) -> None:
    if not _are_headers(result):
        raise wrong_result(result, _HEADERS)


def _events(result: Any) -> None:
    require(isinstance(result, Sequence), result, "a sequence of events")
    for event in result:
        require(type(event) is Event, event, "Event")


def _translation(result: Any) -> None:
    _translation_methods(result)
    _client_request(getattr(result, "request", None))


_translation_methods = _with_methods("feed", "whole", "close")


def _facts(result: Any) -> None:
    if not isinstance(result, Facts):
        raise wrong_result(result, "Facts")
    if not (isinstance(result.parts, (tuple, list)) and result.parts):
        raise wrong_result(result.parts, "a sequence of parts")
    for part in result.parts:
        _part(part)
    if not (result.charged is None or _is_count(result.charged)):
        raise wrong_result(result.charged, "an amount")
    if not _are_utf8((result.stop,)):
        raise wrong_result(result.stop, "text")
    if not (isinstance(result.tools, (list, tuple)) and _are_utf8(result.tools)):
        raise wrong_result(result.tools, "names of tools")


def _part(part: Any) -> None:
    if not isinstance(part, Part):
        raise wrong_result(part, "Part")
    usage, extra = part.usage, part.extra
    if not isinstance(usage, Usage):
        raise wrong_result(usage, "Usage")
    for count in _tokens_of(usage):
        if type(count) is not int or not 0 <= count <= MAX_COUNT:  # `_is_count`, without six calls
            raise wrong_result(count, "a number of tokens")
    if not _are_utf8((part.kind, part.model, part.tier, part.geo)):
        raise _wrong_field(part, dict.fromkeys(("kind", "model", "tier", "geo"), str), "text that UTF-8 can encode")
    if not (isinstance(extra, _MAPPINGS) and _joined(extra) is not None and all(map(_is_count, extra.values()))):
        raise wrong_result(extra, "counts")


_tokens_of: Final = attrgetter(*USAGE_KINDS)


def _nothing(result: Any) -> None:
    """Raise `WrongResult` for an awaitable, because nobody would await it. Ignore any other result."""
    require(not inspect.isawaitable(result), result, "None")


def _is_problem(value: Any) -> bool:
    return (
        isinstance(value, Problem)
        and value.code in STATUS
        and _joined((value.message, value.native, value.reason, value.param, value.accept_encoding)) is not None
        and type(value.status) is int
        and (value.retry_after is None or isinstance(value.retry_after, (int, float)))
    )


def _is_count(value: Any) -> bool:
    """Return whether a value is an integer from 0 to `MAX_COUNT`."""
    return type(value) is int and 0 <= value <= MAX_COUNT


def _is_status(value: Any, lowest: int) -> bool:
    return type(value) is int and lowest <= value <= 599


def _joined(values: Iterable[Any]) -> str | None:
    """Return the joined strings; None if a value is no string. Joining is faster than a check of each type."""
    try:
        return "".join(values)
    except TypeError:
        return None


def _are_utf8(values: Iterable[Any]) -> bool:
    """Return whether all values are strings without lone surrogates, which UTF-8 cannot encode."""
    text = _joined(values)
    return text is not None and (text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text))


def _are_headers(headers: Any) -> bool:
    """Return whether names and values are strings without line ends and zero characters."""
    if not isinstance(headers, _MAPPINGS):
        return False
    text = _joined(chain.from_iterable(headers.items()))
    return text is not None and (text.isprintable() or not any(end in text for end in "\r\n\0"))


_MAPPINGS: Final = (dict, Mapping)
"""The types of mappings. `dict` is first, because a check for the abstract class is slow."""


def _opened(result: Any) -> None:
    if fault := opened_fault(result):
        raise WrongResult(f"returned {fault}")


def _asked(result: Any) -> None:
    require(result is None or isinstance(result, Asked | Reply), result, "Asked, Reply or None")
    if isinstance(result, Reply):
        is_right = isinstance(result.body, bytes) and all(isinstance(event, Event) for event in result.events)
        require(is_right, result, "Reply with the documented types")


def _added_headers(result: Any) -> None:
    """Check the headers that a filter adds. Headers of the connection and the body are not allowed."""
    _headers(result)
    own = sorted(_OWN_HEADERS & {name.lower() for name in result})
    if own or not all(map(HEADER_NAME.fullmatch, result)):
        raise WrongResult(f"returned headers that a filter cannot set: {', '.join(own) or 'a malformed name'}")


def _text(result: Any) -> None:
    if type(result) is not str:
        is_right = isinstance(result, Hold) and isinstance(result.text, str) and isinstance(result.rest, str)
        require(is_right, result, "str or Hold")


_OWN_HEADERS: Final = FRAMING | {
    "content-encoding", "expect", "keep-alive", "proxy-authorization", "proxy-connection",
}  # fmt: skip

RESULTS: Final[Mapping[str, Callable[[Any], None]]] = {
    "parse": _client_request,
    "session_ids": _of_type(SessionIds),
    "opening": _opening,
    "model_list": _bytes,
    "model_entry": _bytes,
    "discover_models": _search,
    "dialect_for": _of_type(str),
    "base_url_fault": _of_type(str),
    "build": _upstream_request,
    "steps": _steps,
    "mark_cache": _changed_request,
    "retry": _changed_request,
    "stream_type": _of_type(str),
    "billed_parts": _billed_parts,
    "limit": _limit,
    "problem": _problem,
    "decoder": _decoder,
    "decoder.whole": _bytes,
    "meter": _with_methods("feed", "whole", "facts"),
    "meter.facts": _facts,
    "encoder": _with_methods("feed", "whole", "ping", "fail", "close"),
    "encoder.feed": _bytes,
    "encoder.whole": _bytes,
    "encoder.ping": _bytes,
    "encoder.fail": _bytes,
    "encoder.close": _bytes,
    "error": _error,
    "reply_headers": _headers,
    "open": _translation,
    "filter.open": _opened,
    "filter.request": _asked,
    "filter.headers": _added_headers,
    "filter.text": _text,
    "filter.replied": _nothing,
    "filter.done": _nothing,
    "seen": _nothing,
    "seen_event": _nothing,
    "translation.feed": _events,
    "translation.whole": _bytes,
    "translation.close": _events,
}
"""The check of each hook's result, by the hook's name. A hook without a check returns nothing that the gateway uses."""
