"""Checks of the results that plugins' hooks return, and of the errors that hooks raise.

A check raises `WrongResult` for a wrong result. It examines types, statuses, headers and numbers of tokens, so that the
rest of the gateway can rely on them. `result_values.py` has the checks of single values.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple, get_args

from gateway.contract.billing import BilledPart, File, FileKind, Search
from gateway.contract.errors import GatewayError, UpstreamFailed
from gateway.contract.facts import USAGE_KINDS, Facts, Part, Usage
from gateway.contract.filter import Asked, Hold, Reply
from gateway.contract.filter_checks import opened_fault
from gateway.contract.http_headers import FRAMING, HEADER_NAME
from gateway.contract.members import Members
from gateway.contract.messages import ClientRequest, Event, Fetch, StepResponse, UpstreamRequest, Work
from gateway.contract.model_lists import DiscoveredModel, ModelSearch
from gateway.contract.result_values import (
    HEADERS,
    MAPPINGS,
    MAX_COUNT,
    WrongResult,
    are_headers,
    are_utf8,
    is_count,
    is_problem,
    is_status,
    joined,
    of_type,
    require,
    with_methods,
    wrong_field,
    wrong_result,
)
from gateway.contract.session_ids import SessionIds


def is_valid_error(error: GatewayError) -> bool:
    """Return whether an error that a plugin raised has attributes of the right types."""
    if not is_problem(getattr(error, "problem", None)):
        return False
    if not isinstance(error, UpstreamFailed):
        return True
    return type(error.raw) is bytes and type(error.status) is int and are_headers(error.headers)


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
        require(all(map(is_count, numbers)), part, f"{type(part).__name__} {_COUNTS}")


def _decoder(result: Any) -> None:
    _decoder_methods(result)
    require(hasattr(result, "done"), result, "an object with an attribute done")


_decoder_methods = with_methods("feed", "close", "whole")
_bytes = of_type(bytes)


def _client_request(result: Any) -> None:
    if not isinstance(result, ClientRequest):
        raise wrong_result(result, "ClientRequest")
    texts = (result.flag, result.dialect, result.operation, result.method, result.path, result.query, result.model)
    is_right = joined(texts) is not None and type(result.stream) is bool and isinstance(result.top, Members)
    if not (is_right and isinstance(result.without, tuple)):
        raise wrong_field(result, _CLIENT_REQUEST)


_TEXTS: Final = dict.fromkeys(("method", "path", "query"), str)
_UPSTREAM_REQUEST: Final = {**_TEXTS, "body": bytes}
_CLIENT_REQUEST: Final = {
    **dict.fromkeys(("flag", "dialect", "operation", "model"), str), **_TEXTS,
    "top": Members, "stream": bool, "without": tuple,
}  # fmt: skip


def _opening(result: Any) -> None:
    is_pair = isinstance(result, tuple) and len(result) == 2
    if not (result is None or (is_pair and joined(result) is not None)):
        raise wrong_result(result, "a pair of texts or None")


def _upstream_request(result: Any) -> None:
    if not isinstance(result, UpstreamRequest):
        raise wrong_result(result, "UpstreamRequest")
    is_right = joined((result.method, result.path, result.query)) is not None and isinstance(result.body, bytes)
    if not (is_right and are_headers(result.headers)):
        raise wrong_field(result, _UPSTREAM_REQUEST)
    # the path follows the host of the provider's base URL, so anything but a slash could name another host
    if not (result.path.startswith("/") and result.path.isprintable()):
        raise WrongResult("returned UpstreamRequest whose path is wrong; one line that begins with / is expected")


def _steps(result: Any) -> None:
    if isinstance(result, ClientRequest):
        _client_request(result)
    else:
        require(isinstance(result, Generator), result, "a generator or ClientRequest")


def _step(result: Any) -> None:
    """Check a value that the generator of a plugin's hook `steps` yields."""
    match result:
        case UpstreamRequest():
            _upstream_request(result)
        case Fetch():
            if not (isinstance(result.url, str) and isinstance(result.max_bytes, int)):
                raise wrong_field(result, {"url": str, "max_bytes": int})
        case Work():
            require(callable(result.function), result, "Work with a function")
        case _:
            require(False, result, "UpstreamRequest, Fetch or Work")


def _step_result(result: Any) -> None:
    """Check the request or the reply that the generator of the hook `steps` returns at its end."""
    if not isinstance(result, StepResponse):
        _client_request(result)
        return
    if not is_status(result.status, 200):
        raise WrongResult("returned StepResponse whose status is wrong; a number of 200 to 599 is expected")
    if not (isinstance(result.body, bytes) and are_headers(result.headers)):
        raise wrong_field(result, {"body": bytes})


def _search(result: Any) -> None:
    if result is not None:
        require(isinstance(result, ModelSearch), result, "ModelSearch or None")
        require(isinstance(result.pages, Generator), result.pages, "ModelSearch whose pages are a generator")
        require(isinstance(result.subdomain, str), result.subdomain, "ModelSearch whose subdomain is text")


def _models(result: Any) -> None:
    """Check the list of models that the generator of a `ModelSearch` returns at its end."""
    require(isinstance(result, Sequence), result, "a sequence of DiscoveredModel")
    for model in result:
        require(isinstance(model, DiscoveredModel), model, "DiscoveredModel for each model")
        if joined((model.name, model.base)) is None:
            raise wrong_field(model, {"name": str, "base": str})


class Checks(NamedTuple):
    """Two checks for a generator of a plugin: `yielded` for each value that it yields, and `result` for the value that
    it returns.
    """

    yielded: Callable[[Any], None]
    result: Callable[[Any], None]


OF_STEPS: Final = Checks(_step, _step_result)
OF_SEARCH: Final = Checks(_upstream_request, _models)


def _changed_request(result: Any) -> None:
    if result is not None:
        _client_request(result)


def _problem(result: Any) -> None:
    if not (result is None or is_problem(result)):
        raise wrong_result(result, "Problem or None")


def _limit(result: Any) -> None:
    if not (result is None or type(result) is int):
        raise wrong_result(result, "int or None")


def _error(result: Any) -> None:
    require(isinstance(result, tuple) and len(result) == 3, result, "a tuple of status, headers and body")
    status, headers, body = result
    require(is_status(status, 400), status, "a status of 400 to 599")
    require(are_headers(headers), headers, HEADERS)
    require(isinstance(body, bytes), body, "bytes")


def _headers(result: Any) -> None:
    if not are_headers(result):
        raise wrong_result(result, HEADERS)


def _events(result: Any) -> None:
    require(isinstance(result, Sequence), result, "a sequence of events")
    for event in result:
        require(type(event) is Event, event, "Event")


def _translation(result: Any) -> None:
    _translation_methods(result)
    _client_request(getattr(result, "request", None))


_translation_methods = with_methods("feed", "whole", "close")


def _facts(result: Any) -> None:
    if not isinstance(result, Facts):
        raise wrong_result(result, "Facts")
    if not (isinstance(result.parts, (tuple, list)) and result.parts):
        raise wrong_result(result.parts, "a sequence of parts")
    for part in result.parts:
        _part(part)
    if not (result.charged is None or is_count(result.charged)):
        raise wrong_result(result.charged, "an amount")
    if not are_utf8((result.stop,)):
        raise wrong_result(result.stop, "text")
    if not (isinstance(result.tools, (list, tuple)) and are_utf8(result.tools)):
        raise wrong_result(result.tools, "names of tools")


def _part(part: Any) -> None:
    if not isinstance(part, Part):
        raise wrong_result(part, "Part")
    usage, extra = part.usage, part.extra
    if not isinstance(usage, Usage):
        raise wrong_result(usage, "Usage")
    tokens = _tokens_of(usage)
    if not (_INTEGERS.issuperset(map(type, tokens)) and 0 <= min(tokens) <= max(tokens) <= MAX_COUNT):
        wrong = next(count for count in tokens if not is_count(count))
        raise wrong_result(wrong, "a number of tokens")
    if not are_utf8((part.kind, part.model, part.tier, part.geo)):
        raise wrong_field(part, dict.fromkeys(("kind", "model", "tier", "geo"), str), "text that UTF-8 can encode")
    if not (isinstance(extra, MAPPINGS) and joined(extra) is not None and all(map(is_count, extra.values()))):
        raise wrong_result(extra, "counts")


_tokens_of: Final = attrgetter(*USAGE_KINDS)
_INTEGERS: Final = frozenset({int})


def _nothing(result: Any) -> None:
    """Raise `WrongResult` if a hook that must return nothing returns an awaitable. Ignore any other result."""
    require(not inspect.isawaitable(result), result, "None")


def _opened(result: Any) -> None:
    if fault := opened_fault(result):
        raise WrongResult(f"returned {fault}")


def _asked(result: Any) -> None:
    require(result is None or isinstance(result, Asked | Reply), result, "Asked, Reply or None")
    if isinstance(result, Reply):
        is_right = isinstance(result.body, bytes) and all(isinstance(event, Event) for event in result.events)
        require(is_right, result, "Reply with the documented types")


def _added_headers(result: Any) -> None:
    """Check the headers that a filter adds. Headers about the connection or about the body are not allowed."""
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
    "session_ids": of_type(SessionIds),
    "opening": _opening,
    "model_list": _bytes,
    "model_entry": _bytes,
    "discover_models": _search,
    "dialect_for": of_type(str),
    "base_url_fault": of_type(str),
    "build": _upstream_request,
    "steps": _steps,
    "mark_cache": _changed_request,
    "retry": _changed_request,
    "advice": of_type(str),
    "stream_type": of_type(str),
    "billed_parts": _billed_parts,
    "limit": _limit,
    "problem": _problem,
    "decoder": _decoder,
    "decoder.whole": _bytes,
    "meter": with_methods("feed", "whole", "facts"),
    "meter.facts": _facts,
    "encoder": with_methods("feed", "whole", "ping", "fail", "close"),
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
"""The check of each hook's result, by the hook's name.

A hook without a check is not in this mapping: its result is not used, or the code that uses the result checks it.
"""
