"""The laws (rules) for every filter. Each text is tried whole and in pieces of several sizes, as in a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.contract.errors import PluginFailed, Refused
from gateway.contract.filter import SECONDS, Asked, Caller, CallView, Hold, HttpReply, Settings
from gateway.contract.flag import ClientRequest
from gateway.contract.registry import LoadedFilter, Plugin
from gateway.contract.samples import FilterSample
from gateway.testkit.laws.chunks import CHUNK_SIZES
from gateway.testkit.laws.exchange import Exchange
from gateway.testkit.laws.known_samples import CLAUDE, known_samples
from gateway.testkit.laws.law import Broken, Exempt, Law, Untried, shown
from gateway.testkit.laws.observer_laws import records
from gateway.testkit.laws.settings_laws import can_be_written

KINDS: Final = ("text", "thinking", "arguments")
TEXTS: Final = ("", "hello", "Grüße, 世界 👩‍👩‍👧! A line\nand a call of ada@example.com, 10:30, 3.14.")
ARGUMENTS: Final = '{"city": "Ulm", "days": [1, 2], "note": "a \\"quoted\\" word"}'
BLOCKED_OUTCOME: Final = "(blocked)"
SERVICE_NEEDED: Final = "the plugin sends requests of its own; try it in a test with a simulated service"


@dataclass(frozen=True, slots=True)
class FilterSubject:
    """A filter with its samples, and the plugins of the API formats with which the filter is tested."""

    loaded: LoadedFilter
    samples: Sequence[FilterSample]
    flags: Sequence[Plugin]

    def opened(self) -> Iterator[tuple[Settings, ClientRequest, Plugin]]:
        """Yield (settings, request, plugin) for each combination of a sample's settings and an API format.

        Formats without known samples are left out.
        """
        for flag in self.flags:
            for sample in known_samples(flag.dialect_for(CLAUDE), flag)[:1]:
                request = Exchange(flag, sample, CLAUDE).request()
                yield from ((each.settings, request, flag) for each in self.samples)

    async def run(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call `function` with `args` as the filter's hook `name`, and return its result.

        Raises `Exempt` if the function fails because there is no network for its own HTTP requests.
        """
        try:
            return await self.loaded.hooks[f"filter.{name}"].settled(function, *args, seconds=SECONDS)
        except PluginFailed as failed:
            if isinstance(failed.__cause__, OSError):
                raise Exempt(SERVICE_NEEDED) from None
            raise

    async def open(self, settings: Settings, request: ClientRequest) -> Any:
        function = self.loaded.hooks["filter.open"].function
        assert function is not None
        return await self.run("open", function, _view(request), settings)


class _NoService:
    """An HTTP client for a filter's own requests. Every request fails, because laws are tested without a network."""

    async def send(self, method: str, url: str, **_options: Any) -> HttpReply:
        raise OSError(f"{method} {url}: no host can be reached while laws are tried")


def _view(request: ClientRequest) -> CallView:
    caller = Caller("ada@example.com", ("group:eng",), (), "node")
    where = ("provider", request.model, request.flag, request.operation)
    return CallView("req_1", caller, "s1", *where, request, _NoService())


def _done(work: Callable[[FilterSubject], Coroutine[Any, Any, None]]) -> Callable[[FilterSubject], None]:
    """Return a law (rule for plugins) that runs the coroutine function `work` to its end."""
    return lambda subject: asyncio.run(work(subject))


async def _calls_are_opened(subject: FilterSubject) -> None:
    async for _ in _objects(subject):
        pass


async def _objects(subject: FilterSubject) -> AsyncIterator[tuple[Any, ClientRequest, Plugin]]:
    """Open the filter for each request of `subject.opened`. Yield the object that `open` returns, the request and the
    request's plugin.

    A request is left out if `open` refuses it or returns None.
    """
    for settings, request, flag in subject.opened():
        try:
            opened = await subject.open(settings, request)
        except Refused:
            continue
        if opened is not None:
            yield opened, request, flag


async def _requests_are_judged(subject: FilterSubject) -> None:
    async for opened, request, flag in _objects(subject):
        if hasattr(opened, "request"):
            try:
                await subject.run("request", opened.request, Asked(request, flag.places))
            except Refused:
                continue


async def _headers_are_added(subject: FilterSubject) -> None:
    async for opened, _, _ in _objects(subject):
        if hasattr(opened, "headers"):
            await subject.run("headers", opened.headers)


async def _records_are_taken(subject: FilterSubject) -> None:
    async for opened, _, _ in _objects(subject):
        if hasattr(opened, "done"):
            for record in records().values():
                await subject.run("done", opened.done, record)


async def _text_of(subject: FilterSubject, settings: Settings, kind: str, pieces: Sequence[str]) -> str:
    """Return the text that a client gets if the provider sends a text in these pieces, and the filter changes them.

    Return `BLOCKED_OUTCOME` if the filter refuses the call. `kind` is the kind of text, such as `text` or `arguments`
    (`Place.kind`).
    """
    request = next(request for _, request, _ in subject.opened())
    opened = await subject.open(settings, request)
    if opened is None or not hasattr(opened, "text"):
        return "".join(pieces)
    out, rest = "", ""
    for at, piece in enumerate(pieces):
        last = at == len(pieces) - 1
        try:
            result = await subject.run("text", opened.text, kind, rest + piece, last)
        except Refused:
            return BLOCKED_OUTCOME
        text, rest = (result.text, result.rest) if isinstance(result, Hold) else (result, "")
        out += text
    return out + rest


def _texts(sample: FilterSample) -> Iterator[str]:
    """Yield texts to test a filter with: common texts, the sample's texts, and sentences with each string in the
    sample's settings.
    """
    yield from TEXTS
    yield from sample.texts
    for word in _words(sample.settings.model_dump(mode="python")):
        yield f"{word} in front, {word}{word} and twice, then at the end {word}"
        yield f"{word[:-1]} is only a part of {word[1:]}"


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _words(each)
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _words(each)


async def _pieces_of_any_size(subject: FilterSubject) -> None:
    is_changed, unchanged = False, []
    for sample in subject.samples:
        for text in _texts(sample):
            changes = [await _is_changed_alike(subject, sample.settings, kind, text) for kind in KINDS]
            is_changed = is_changed or any(changes)
            if text in sample.texts and not any(changes):
                unchanged.append((f"text: {shown(text)}", f"settings: {shown(sample.settings)}"))
    if not await _reads_text(subject):
        return
    if is_changed and unchanged:
        raise Broken("a text of `samples` is neither changed nor blocked", *unchanged[0])
    if not is_changed:
        if unchanged:
            raise Exempt("no text was changed, and none of the texts in `samples`")
        raise Untried("no text was changed; give texts in `samples` (gateway.contract.samples.FilterSample)")


async def _is_changed_alike(subject: FilterSubject, settings: Settings, kind: str, text: str) -> bool:
    """Return whether the filter changes `text`.

    Raises `Broken` if the filter's result for the whole text differs from its result for the text in pieces.
    """
    given = json.dumps({"note": text}, ensure_ascii=False) if kind == "arguments" else text
    expected = await _text_of(subject, settings, kind, [given])
    await _require_same_in_pieces(subject, settings, kind, given, expected)
    return expected != given


async def _reads_text(subject: FilterSubject) -> bool:
    return any([hasattr(opened, "text") async for opened, _, _ in _objects(subject)])


async def _require_same_in_pieces(
    subject: FilterSubject, settings: Settings, kind: str, text: str, expected: str
) -> None:
    """Divide the text into pieces of several sizes. Raise `Broken` if the filter turns the pieces into anything but
    `expected`.
    """
    for size in CHUNK_SIZES:
        pieces = [text[at : at + size] for at in range(0, len(text), size)] or [""]
        got = await _text_of(subject, settings, kind, pieces)
        if got != expected:
            await _report(subject, settings, kind, pieces, expected)


async def _report(subject: FilterSubject, settings: Settings, kind: str, pieces: Sequence[str], expected: str) -> None:
    """Raise `Broken` with the pieces as an example of a wrong result.

    The example is made shorter first: neighbouring pieces are joined as long as the filter's result still differs from
    `expected`.
    """
    at = 0
    while at + 1 < len(pieces):
        fewer = [*pieces[:at], pieces[at] + pieces[at + 1], *pieces[at + 2 :]]
        if await _text_of(subject, settings, kind, fewer) == expected:
            at += 1
        else:
            pieces = fewer
    got = await _text_of(subject, settings, kind, pieces)
    inputs = f"pieces of {kind}: {' | '.join(map(repr, pieces))}", f"settings: {shown(settings)}"
    raise Broken(f"in one piece the client gets {shown(expected)}, in pieces {shown(got)}", *inputs)


async def _arguments_stay_json(subject: FilterSubject) -> None:
    for sample in subject.samples:
        words = _words(sample.settings.model_dump(mode="python"))
        for text in (ARGUMENTS, *(json.dumps({"note": word}) for word in (*sample.texts, *words))):
            got = await _text_of(subject, sample.settings, "arguments", [*text])
            if got != BLOCKED_OUTCOME:
                try:
                    json.loads(got)
                except ValueError:
                    raise Broken(
                        f"the arguments of a call are no JSON any more: {got!r}", f"arguments {text}"
                    ) from None


def _settings_can_be_written(subject: FilterSubject) -> None:
    for at, sample in enumerate(subject.samples):
        can_be_written(sample.settings, f"settings {at}")


FILTER_LAWS: Final[tuple[Law[FilterSubject], ...]] = (
    Law("a call of every format is opened or not seen", _done(_calls_are_opened)),
    Law("a request of every format is let pass, changed, answered or blocked", _done(_requests_are_judged)),
    Law("the added headers are valid", _done(_headers_are_added)),
    Law("text in pieces of any size becomes the same text", _done(_pieces_of_any_size)),
    Law("the arguments of tool calls stay JSON", _done(_arguments_stay_json)),
    Law("a record of every kind of call is taken", _done(_records_are_taken)),
    Law("the configuration can set the settings", _settings_can_be_written),
)
