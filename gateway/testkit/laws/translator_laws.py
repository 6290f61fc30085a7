"""The laws (rules) for every translator.

The laws use the plugins of the client's and of the provider's API format to read the translator's output.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from gateway.contract import lenient_json
from gateway.contract.capabilities import Caps
from gateway.contract.errors import BadFrame, GatewayError, PluginFailed, Refused, UpstreamFailed
from gateway.contract.flag import ClientRequest, Drop, Event, Facts, Meter, Target, Translation, Usage
from gateway.contract.registry import LoadedTranslator, Plugin
from gateway.contract.samples import Sample
from gateway.testkit.laws.chunks import chunkings, divided, fewest_borders, shown_borders
from gateway.testkit.laws.exchange import CHECKED_MODEL, HEAD, Exchange, ignored, options_of, stepped
from gateway.testkit.laws.law import Broken, Law, reason_of, require, samples_with, shown
from gateway.testkit.laws.mutations import damaged_bodies, damaged_events, matches, pointers, text_of, without


@dataclass(frozen=True, slots=True)
class TranslatorSubject:
    """A translator with its samples, and with the plugins of the client's and the provider's API format."""

    translator: LoadedTranslator
    client: Plugin
    provider: Plugin
    upstream: str
    """The dialect of requests to the provider."""
    samples: Sequence[Sample]
    caps: Caps

    def calls(self, has: Callable[[Sample], bytes], what: str) -> Iterator[TranslatedCall]:
        """Yield a call for each sample that has a certain part, such as a stream.

        `has` returns this part of a sample, or b"" if the sample lacks it. If all samples lack it, `Untried` is raised,
        with `what` as the name of the part.
        """
        for sample in samples_with(self.samples, has, what):
            yield TranslatedCall(self, sample)

    def requests(self) -> Iterator[TranslatedCall]:
        return self.calls(lambda sample: sample.request, "a request")

    def streams(self) -> Iterator[TranslatedCall]:
        return self.calls(lambda sample: sample.stream, "a stream")

    def wholes(self) -> Iterator[TranslatedCall]:
        return self.calls(lambda sample: sample.whole, "a whole reply")


@dataclass(frozen=True, slots=True)
class TranslatedCall:
    """A sample of a translator, with methods that translate its request and its replies."""

    subject: TranslatorSubject
    sample: Sample

    @property
    def name(self) -> str:
        return f"sample {self.sample.name}"

    @property
    def target(self) -> Target:
        subject = self.subject
        options = options_of(subject.provider, self.sample)
        return Target("provider", subject.provider.name, CHECKED_MODEL, subject.upstream, subject.caps, options)

    @property
    def client(self) -> Exchange:
        return Exchange(self.subject.client, self.sample, self.subject.caps)

    def open(self, *, stream: bool, body: bytes | None = None, drop: Drop = ignored) -> Translation:
        """Return the translation of the sample's request. If `body` is not None, the request has this body instead of
        its own.

        Raises `Refused` if the request is refused. `drop` gets the path of each field that is left out.
        """
        request = self.client.request(stream=stream, body=body)
        request = stepped(self.subject.client, request, self.target, drop)
        return self.subject.translator.open(request, self.target, drop)

    def sent(self, body: bytes, drop: Drop = ignored) -> tuple[str, bytes]:
        """Return the path and the body of the request to the provider. Raises `Refused` if the request is refused."""
        provider = self.subject.provider
        request = stepped(provider, self.open(stream=False, body=body, drop=drop).request, self.target, drop)
        built = provider.build(request, self.target, drop)
        return built.path, built.body

    def upstream_events(self, chunks: Iterable[bytes]) -> list[Event]:
        """Return the provider's events. Raises `UpstreamFailed` if the stream has an error or ends too early."""
        flag = self.subject.provider
        decoder = flag.decoder(self._upstream_request(), self.target, HEAD)
        feed, close = flag.hooks["decoder.feed"].each, flag.hooks["decoder.close"].each
        events = [event for chunk in chunks for event in feed(decoder.feed, chunk)]
        return [*events, *close(decoder.close)]

    def upstream_meter(self) -> Meter:
        return self.subject.provider.meter(self._upstream_request(), self.target, HEAD)

    def _upstream_request(self) -> ClientRequest:
        return self.open(stream=True).request

    def translated(self, events: Iterable[Event]) -> list[Event]:
        """Return the translation of the provider's events. Raises `UpstreamFailed` if they cannot be translated."""
        translation, hooks = self.open(stream=True), self.subject.translator.hooks
        out = [each for event in events for each in hooks["translation.feed"].run(translation.feed, event)]
        return [*out, *hooks["translation.close"].run(translation.close)]

    def translated_whole(self, body: bytes) -> bytes:
        """Return the translated body of a reply that is not streamed. Raises `BadFrame` if the body cannot be read."""
        translation, hook = self.open(stream=False), self.subject.translator.hooks["translation.whole"]
        decoder = self.subject.provider.decoder(self._upstream_request(), self.target, HEAD)
        decoded = self.subject.provider.hooks["decoder.whole"].run(decoder.whole, body)
        return hook.run(translation.whole, decoded)


def requests_are_translated(subject: TranslatorSubject) -> None:
    for call in subject.requests():
        try:
            request = call.open(stream=False).request
            call.sent(call.sample.request)
        except Refused as refused:
            raise Broken(f"it was refused: {refused.problem.message}", call.name) from None
        dialect = request.dialect
        require(dialect == subject.upstream, f"the dialect of the translated request is {dialect!r}", call.name)


def damaged_requests_are_translated_or_refused(subject: TranslatorSubject) -> None:
    for call in subject.requests():
        for damage, body in damaged_bodies(call.sample.request):
            try:
                call.sent(body)
            except Refused:
                continue
            except PluginFailed as failed:
                raise Broken(reason_of(failed), call.name, damage) from None


def every_member_counts_or_is_reported(subject: TranslatorSubject) -> None:
    for call in subject.requests():
        body = lenient_json.loads(call.sample.request)
        dropped: list[str] = []

        def drop(path: str, dropped: list[str] = dropped) -> None:
            dropped.append(path)

        expected = call.sent(call.sample.request, drop)
        for at in pointers(body):
            if matches(at, (*dropped, *call.sample.neutral)) or _sent_without(call, body, at) != expected:
                continue
            reason = f"without {text_of(at)} the provider gets the same request, and no loss is reported"
            raise Broken(reason, call.name, "call drop(path), or name the member in the sample's `neutral`")


def _sent_without(call: TranslatedCall, body: Any, at: tuple[str | int, ...]) -> tuple[str, bytes] | None:
    try:
        return call.sent(json.dumps(without(body, at)).encode())
    except Refused:
        return None


def any_chunking_gives_the_same_events(subject: TranslatorSubject) -> None:
    for call in subject.streams():
        data = call.sample.stream
        expected, again = (_values(call, [data]) for _ in range(2))

        def differs(
            chunks: list[bytes], call: TranslatedCall = call, pair: tuple[Any, Any] = (expected, again)
        ) -> bool:
            try:
                return not is_same(*pair, _values(call, chunks))
            except UpstreamFailed:
                return True

        for chunks in chunkings(data):
            if differs(chunks):
                size = len(chunks[0])
                borders = fewest_borders(data, range(size, len(data), size), differs)
                got = shown(_values(call, divided(data, borders)))
                raise Broken(f"the events differ: {got}", call.name, shown_borders(data, borders))


def _values(call: TranslatedCall, chunks: Iterable[bytes]) -> list[Any]:
    return [[event.kind, _value(event)] for event in call.translated(call.upstream_events(chunks))]


def _value(event: Event) -> Any:
    return event.data if event.payload.lstrip()[:1] == b"{" else event.payload


_CLOCK: Final = re.compile(r"created|latency|duration|elapsed|(^|_)(at|ms|time)$|[a-z](At|Ms|Time)$")
"""Pattern for keys whose values are times. `is_same` accepts any number as the value of such a key."""


def is_same(expected: Any, again: Any, got: Any, name: str = "") -> bool:
    """Return whether `got` equals `expected`, apart from values that differ in every run, such as ids and times.

    `again` is the result of a second run like that of `expected`. Where these two differ, `got` may have any value of
    the same type. `name` is the key of the compared value. If it is the key of a time, any two numbers count as equal.
    """
    if isinstance(expected, dict) and isinstance(again, dict) and isinstance(got, dict):
        same_keys = expected.keys() == again.keys() == got.keys()
        return same_keys and all(is_same(expected[key], again[key], got[key], key) for key in expected)
    if isinstance(expected, list) and isinstance(again, list) and isinstance(got, list):
        same_length = len(expected) == len(again) == len(got)
        return same_length and all(map(is_same, expected, again, got))
    if isinstance(expected, int | float) and isinstance(got, int | float) and _CLOCK.search(name):
        return True
    return bool(expected == got) or (expected != again and type(expected) is type(got))


def the_client_sees_the_tokens_that_are_charged(subject: TranslatorSubject) -> None:
    for call in subject.streams():
        events = call.upstream_events([call.sample.stream])
        meter, hooks = call.upstream_meter(), subject.provider.hooks
        for event in events:
            hooks["meter.feed"].run(meter.feed, event)
        charged = hooks["meter.facts"].run(meter.facts)
        _same_tokens(charged, call.client.metered(call.translated(events)), call)


def the_whole_reply_has_the_same_tokens(subject: TranslatorSubject) -> None:
    for call in subject.wholes():
        meter, hooks = call.upstream_meter(), subject.provider.hooks
        hooks["meter.whole"].run(meter.whole, call.sample.whole)
        charged = hooks["meter.facts"].run(meter.facts)
        _same_tokens(charged, call.client.metered_whole(call.translated_whole(call.sample.whole)), call)


def _same_tokens(charged: Facts, display: Facts, call: TranslatedCall) -> None:
    got, expected = _counts(display), _counts(charged)
    require(got == expected, f"the client is shown {got}, and {expected} is charged", call.name)


def _counts(facts: Facts) -> dict[str, int]:
    """Return the counts that every dialect has: input tokens of all kinds, output tokens, and called tools."""
    usage: Usage = facts.usage
    read = usage.input + usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
    return {"input": read, "output": usage.output, "tools": len(facts.tools)}


def calls_do_not_mix(subject: TranslatorSubject) -> None:
    for call in subject.streams():
        events = call.upstream_events([call.sample.stream])
        alone, again = ([_value(each) for each in call.translated(events)] for _ in range(2))
        feed, close = (subject.translator.hooks[f"translation.{name}"] for name in ("feed", "close"))
        pair = call.open(stream=True), call.open(stream=True)
        both: tuple[list[Any], list[Any]] = [], []
        for event in events:
            for translation, out in zip(pair, both, strict=True):
                out.extend(map(_value, feed.run(translation.feed, event)))
        for translation, out in zip(pair, both, strict=True):
            out.extend(map(_value, close.run(translation.close)))
            require(is_same(alone, again, out), "two calls at the same time change one another", call.name)


def damaged_streams_are_read_or_fail(subject: TranslatorSubject) -> None:
    for call in subject.streams():
        events = call.upstream_events([call.sample.stream])
        for damage, changed in damaged_events(events):
            try:
                with suppress(UpstreamFailed):
                    call.translated(changed)
            except (PluginFailed, Refused) as error:
                raise Broken(reason_of(error), call.name, damage) from None


def damaged_replies_are_read_or_bad(subject: TranslatorSubject) -> None:
    for call in subject.wholes():
        for damage, body in damaged_bodies(call.sample.whole):
            try:
                with suppress(BadFrame):
                    call.translated_whole(body)
            except GatewayError as error:
                raise Broken(reason_of(error), call.name, damage) from None


TRANSLATOR_LAWS: Final[tuple[Law[TranslatorSubject], ...]] = (
    Law("a sample's request is translated", requests_are_translated),
    Law("a damaged request is translated or refused", damaged_requests_are_translated_or_refused),
    Law("every member of a request counts or is reported as dropped", every_member_counts_or_is_reported),
    Law("chunks of any size give the same events", any_chunking_gives_the_same_events),
    Law("two calls at the same time do not change one another", calls_do_not_mix),
    Law("a streaming client sees the tokens that are charged", the_client_sees_the_tokens_that_are_charged),
    Law("a client of a whole reply sees the tokens that are charged", the_whole_reply_has_the_same_tokens),
    Law("a damaged stream is read or fails as the provider's", damaged_streams_are_read_or_fail),
    Law("a damaged reply is read or fails as the provider's", damaged_replies_are_read_or_bad),
)
