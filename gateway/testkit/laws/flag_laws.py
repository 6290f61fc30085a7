"""The laws of every flag (the plugin of one API format)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any, Final

import orjson

from gateway.contract.billing import is_lazy
from gateway.contract.capabilities import Caps
from gateway.contract.errors import BadFrame, PluginFailed, Problem, Refused, Truncated, UpstreamFailed
from gateway.contract.flag import Event, Facts, Head, StepResponse
from gateway.contract.hook_results import OF_SEARCH
from gateway.contract.lazy_body import LazyBody
from gateway.contract.members import Members
from gateway.contract.samples import Sample
from gateway.testkit.laws.chunks import chunkings, cuts, divided, fewest_borders, shown_borders
from gateway.testkit.laws.exchange import CHECKED_MODEL, Exchange, http_request
from gateway.testkit.laws.flag_subject import FlagSubject, name_of
from gateway.testkit.laws.law import Broken, Law, reason_of, require, shown
from gateway.testkit.laws.mutations import HOSTILE_BODIES, damaged_bodies, damaged_events
from gateway.testkit.laws.place_laws import PLACE_LAWS
from gateway.testkit.laws.settings_laws import can_be_written, reach_worker_processes

STATUSES: Final = (400, 401, 403, 404, 408, 413, 418, 424, 429, 500, 502, 503, 504, 529)
ERROR_BODIES: Final = (
    *HOSTILE_BODIES, b'{"message":"why"}', b'{"error":"why"}', b'{"error":{"message":"why","type":7}}', b"[1]",
)  # fmt: skip
_ENTRIES: Final = (
    b"7", b'"m"', b"{}", b"[7]", b'["m"]', b'[{"id":7,"name":7,"modelId":7,"models":7}]',
    b'[{"id":"m","name":"models/m","modelId":"m","outputModalities":["TEXT"],"models":[{"modelArn":7},7]}]',
)  # fmt: skip
ODD_LISTS: Final = tuple(
    b'{"data":%b,"models":%b,"modelSummaries":%b,"inferenceProfileSummaries":%b,"has_more":true,"last_id":"m"}'
    % ((entries,) * 4)
    for entries in _ENTRIES
)
"""Replies to requests for a list of models. Some of their entries are wrong. Each reply says that there is a next page,
so the list never ends."""
MAX_PAGES: Final = 10
"""Maximum number of pages of a model list that a law reads."""
FLIPS: Final = 300
"""Number of damaged copies that a law makes of each stream. Each copy has one damaged byte."""


def parts_of(events: Sequence[Event]) -> list[tuple[str, bytes, bytes | None]]:
    return [(event.kind, event.payload, event.raw) for event in events]


def samples_are_read(subject: FlagSubject) -> None:
    for exchange in subject.requests():
        try:
            parsed = exchange.request()
        except Refused as refused:
            raise Broken(f"parse refused it: {refused.problem.message}", name_of(exchange)) from None
        require(bool(parsed.model), "parse returned no model", name_of(exchange))
        require(parsed.top.body == exchange.sample.request, "parse changed the body", name_of(exchange))


def hostile_bodies_are_refused(subject: FlagSubject) -> None:
    if not subject.flag.routes:
        return
    for body in HOSTILE_BODIES:
        try:
            subject.flag.parse(http_request(subject.flag, Sample(body), body))
        except PluginFailed as failed:
            raise Broken(reason_of(failed), f"body {body!r}") from None
        except Refused:
            continue


def the_provider_gets_its_models_name(subject: FlagSubject) -> None:
    for exchange in subject.requests():
        built = exchange.build(exchange.request())
        sent = built.path.encode() + built.query.encode() + built.body
        require(CHECKED_MODEL.encode() in sent, f"build left out target.model: {shown(sent)}", name_of(exchange))


def damaged_requests_are_sent_or_refused(subject: FlagSubject) -> None:
    for exchange in subject.requests():
        for damage, body in damaged_bodies(exchange.sample.request):
            try:
                exchange.build(exchange.request(body=body))
            except Refused:
                continue
            except PluginFailed as failed:
                raise Broken(reason_of(failed), name_of(exchange), damage) from None


def any_chunking_gives_the_same_events(subject: FlagSubject) -> None:
    for exchange in subject.streams():
        data = exchange.sample.stream
        expected = parts_of(exchange.decoded([data]))

        def differs(
            chunks: list[bytes], exchange: Exchange = exchange, expected: Sequence[Any] = tuple(expected)
        ) -> bool:
            try:
                return parts_of(exchange.decoded(chunks)) != list(expected)
            except UpstreamFailed:
                return True

        for chunks in chunkings(data):
            if differs(chunks):
                size = len(chunks[0])
                borders = fewest_borders(data, range(size, len(data), size), differs)
                got = _outcome(exchange, divided(data, borders))
                raise Broken(f"the events differ: {got}", name_of(exchange), shown_borders(data, borders))


def _outcome(exchange: Exchange, chunks: Sequence[bytes]) -> str:
    try:
        return shown([(event.kind, event.payload) for event in exchange.decoded(chunks)])
    except UpstreamFailed as error:
        return f"{type(error).__name__}: {error.problem.message}"


def streams_do_not_mix(subject: FlagSubject) -> None:
    for exchange in subject.streams():
        chunks = next(iter(chunkings(exchange.sample.stream)))
        expected = parts_of(exchange.decoded(chunks))
        try:
            both = _decoded_together(exchange, chunks)
        except UpstreamFailed as error:
            raise Broken(
                f"of two streams at the same time, one fails: {error.problem.message}", name_of(exchange)
            ) from None
        for events in both:
            require(parts_of(events) == expected, "two streams at the same time change one another", name_of(exchange))


def _decoded_together(exchange: Exchange, chunks: Sequence[bytes]) -> tuple[list[Event], list[Event]]:
    """Decode a stream with two decoders that take turns: each chunk goes to both before the next chunk. Return the
    events of both.

    Raises `UpstreamFailed` if the stream has an error or ends too early.
    """
    decoders = exchange.decoder(), exchange.decoder()
    both: tuple[list[Event], list[Event]] = [], []
    for chunk in chunks:
        for decoder, events in zip(decoders, both, strict=True):
            events.extend(exchange.feed(decoder, chunk))
    for decoder, events in zip(decoders, both, strict=True):
        events.extend(exchange.close(decoder))
    return both


def the_native_way_keeps_every_byte(subject: FlagSubject) -> None:
    for exchange in subject.streams():
        raw = [event.raw for event in exchange.decoded([exchange.sample.stream])]
        joined = b"".join(part for part in raw if part is not None)
        require(None not in raw, "an event has no raw bytes", name_of(exchange))
        require(joined == exchange.sample.stream, f"the events' bytes are {shown(joined)}", name_of(exchange))


def a_cut_stream_is_an_error(subject: FlagSubject) -> None:
    for exchange in subject.streams():
        data, complete = exchange.sample.stream, 0
        decoder = exchange.decoder()
        for event in exchange.feed(decoder, data):
            if decoder.done:
                break
            complete += len(event.raw or b"")
        for cut in cuts(data, complete):
            with suppress(Truncated, BadFrame):
                events = exchange.decoded([data[:cut]])
                end = f"the stream of {len(data)} bytes, cut after {cut}: {data[max(0, cut - 40) : cut]!r}"
                raise Broken(f"the decoder closed without an error, after {len(events)} events", name_of(exchange), end)


def damaged_bytes_are_events_or_an_error(subject: FlagSubject) -> None:
    for exchange in subject.streams():
        random = Random(0)  # noqa: S311 (the same damage in every run)
        for _ in range(FLIPS):
            broken = bytearray(exchange.sample.stream)
            at, change = random.randrange(len(broken)), random.randrange(1, 256)
            broken[at] ^= change
            try:
                exchange.metered(exchange.decoded([bytes(broken)]))
            except UpstreamFailed:
                continue
            except (PluginFailed, Refused) as error:
                place = f"byte {at} of {len(broken)} is {broken[at]:#04x}: {bytes(broken[max(0, at - 20) : at + 20])!r}"
                raise Broken(reason_of(error), name_of(exchange), place) from None


def a_streams_facts_are_those_of_the_whole(subject: FlagSubject) -> None:
    for exchange in subject.streams():
        if exchange.sample.whole:
            streamed = exchange.metered(exchange.decoded([exchange.sample.stream]))
            whole = exchange.metered_whole(exchange.sample.whole)
            _same_facts(streamed, whole, exchange)


def _same_facts(streamed: Facts, whole: Facts, exchange: Exchange) -> None:
    require(streamed == whole, f"streamed {shown(streamed)}, whole {shown(whole)}", name_of(exchange))


def the_tokens_are_reported(subject: FlagSubject) -> None:
    for exchange in subject.streams():
        facts = exchange.metered(exchange.decoded([exchange.sample.stream]))
        require(facts.reported, "no tokens were reported for the stream", name_of(exchange))
        require(facts.usage.output > 0, "the stream's output tokens are 0", name_of(exchange))


def what_is_written_is_counted(subject: FlagSubject) -> None:
    for exchange in subject.streams():
        events = exchange.decoded([exchange.sample.stream])
        size, _, fault = subject.flag.hooks["output_bytes"].total(events)
        if fault is not None:
            raise Broken(reason_of(fault), name_of(exchange))
        reason = "output_bytes is 0 for every event, so a stream that is cut would be free"
        require(size > 0, reason, name_of(exchange))


def odd_events_are_read_or_bad(subject: FlagSubject) -> None:
    for exchange in subject.streams():
        for damage, events in damaged_events(exchange.decoded([exchange.sample.stream])):
            try:
                with suppress(UpstreamFailed):
                    exchange.metered(events)
                with suppress(UpstreamFailed):
                    encoded(exchange, events)
                _, _, fault = subject.flag.hooks["output_bytes"].total(events)
            except (PluginFailed, Refused) as error:
                raise Broken(reason_of(error), name_of(exchange), damage) from None
            if fault is not None:
                raise Broken(reason_of(fault), name_of(exchange), damage)


def encoded(exchange: Exchange, events: Sequence[Event]) -> bytes:
    """Return the bytes that the plugin's encoder writes for a stream's events.

    Raises `BadFrame` if the encoder cannot read an event.
    """
    encoder, hooks = exchange.flag.encoder(exchange.request(stream=True)), exchange.flag.hooks
    feed = hooks["encoder.feed"].run
    written = [feed(encoder.feed, Event(event.kind, event.payload)) for event in events]
    return b"".join([*written, hooks["encoder.close"].run(encoder.close)])


def odd_bodies_are_read_or_bad(subject: FlagSubject) -> None:
    for exchange in subject.wholes():
        for damage, body in damaged_bodies(exchange.sample.whole):
            try:
                with suppress(BadFrame):
                    exchange.metered_whole(body)
                _whole_hooks(exchange, body)
            except (PluginFailed, Refused, UpstreamFailed) as error:
                raise Broken(reason_of(error), name_of(exchange), damage) from None


def _whole_hooks(exchange: Exchange, body: bytes) -> None:
    """Call the hooks of the decoder and the encoder for an unstreamed reply. Raises `PluginFailed` if one fails."""
    flag, decoder = exchange.flag, exchange.decoder(stream=False)
    encoder = flag.encoder(exchange.request())
    for hook, function in (("decoder.whole", decoder.whole), ("encoder.whole", encoder.whole)):
        with suppress(BadFrame):
            flag.hooks[hook].run(function, body)


def an_encoded_stream_is_decoded_again(subject: FlagSubject) -> None:
    for exchange in subject.streams():
        events = [event for event in exchange.decoded([exchange.sample.stream]) if event.kind]
        data = encoded(exchange, events)
        again = [event for event in exchange.decoded([data]) if event.kind]
        got, expected = ([(each.kind, _value(each)) for each in every] for every in (again, events))
        require(got == expected, f"the encoder wrote {shown(data)}", name_of(exchange))


def _value(event: Event) -> Any:
    try:
        return orjson.loads(event.payload)
    except orjson.JSONDecodeError:
        return event.payload


def a_ping_changes_nothing(subject: FlagSubject) -> None:
    for exchange in subject.streams():
        encoder = exchange.flag.encoder(exchange.request(stream=True))
        ping: bytes = exchange.flag.hooks["encoder.ping"].run(encoder.ping)
        expected = exchange.decoded([exchange.sample.stream])
        got = exchange.decoded([ping, exchange.sample.stream])
        # the ping may be a part of the next event's bytes
        shown_to_client = [[(each.kind, each.payload, each.raw == b"") for each in every] for every in (got, expected)]
        same_events = shown_to_client[0][-len(expected) :] == shown_to_client[1]
        same_facts = exchange.metered(got) == exchange.metered(expected)
        require(same_events and same_facts, f"the stream after the ping {ping!r} is another one", name_of(exchange))


def an_error_in_a_stream_is_one(subject: FlagSubject) -> None:
    for exchange in subject.streams():
        encoder = exchange.flag.encoder(exchange.request(stream=True))
        failure = exchange.flag.hooks["encoder.fail"].run(encoder.fail, Problem("upstream", "the reason"))
        with suppress(UpstreamFailed):
            exchange.decoded([failure])
            raise Broken("the flag's own decoder reads it as a complete stream", name_of(exchange), shown(failure))


def every_error_is_a_problem(subject: FlagSubject) -> None:
    flag = subject.flag
    for status in STATUSES:
        for body in ERROR_BODIES:
            given = f"status {status}, body {body!r}"
            problem = flag.problem(Head(status, {"retry-after": "soon"}), body)
            if problem is None or not problem.message:
                raise Broken(f"problem returned {problem!r}", given)
            flag.error(problem)


def odd_requests_have_billed_parts(subject: FlagSubject) -> None:
    billed_parts = subject.flag.hooks["billed_parts"]
    for exchange in subject.requests():
        for damage, body in [("the request itself", exchange.sample.request), *damaged_bodies(exchange.sample.request)]:
            try:
                decoded = orjson.loads(body)
            except orjson.JSONDecodeError:
                continue
            try:
                found = billed_parts.as_list(decoded) if isinstance(decoded, dict) else []
                with suppress(Refused):  # a key that occurs twice
                    lazily = billed_parts.as_list(LazyBody(Members(body))) if is_lazy(billed_parts.function) else found
                    require(Counter(lazily) == Counter(found), f"{lazily!r} lazily, and {found!r} from a dict", damage)
            except PluginFailed as failed:
                raise Broken(reason_of(failed), name_of(exchange), damage) from None


def odd_lists_of_models_are_read_or_bad(subject: FlagSubject) -> None:
    for host in ("", "models.example.com"):
        for body in (*HOSTILE_BODIES, *ODD_LISTS):
            try:
                _search(subject, host, body)
            except BadFrame:
                continue
            except PluginFailed as failed:
                raise Broken(reason_of(failed), f"list {shown(body)}") from None


def _search(subject: FlagSubject, host: str, body: bytes) -> None:
    """Run the plugin's search for models with `body` as the reply to every request. Stop after `MAX_PAGES` requests."""
    search = subject.flag.discover_models(host)
    if search is None:
        return
    hook = subject.flag.hooks["discover_models"]
    reply = None
    for _ in range(MAX_PAGES):
        _wanted, is_end = hook.advance(search.pages, reply, OF_SEARCH)
        if is_end:
            return
        reply = StepResponse(200, {}, body)


def the_dialect_is_declared(subject: FlagSubject) -> None:
    flag = subject.flag
    for caps in (Caps(), subject.caps, *(Caps(native_dialect=dialect) for dialect in flag.dialects)):
        dialect = flag.dialect_for(caps)
        require(dialect in flag.dialects, f"{dialect!r} is not in `dialects`, which are {flag.dialects}", shown(caps))


def options_can_be_written(subject: FlagSubject) -> None:
    for exchange in subject.requests():
        can_be_written(exchange.target.options, name_of(exchange))


def options_reach_worker_processes(subject: FlagSubject) -> None:
    for exchange in subject.requests():
        reach_worker_processes(exchange.target.options, name_of(exchange))


FLAG_LAWS: Final[tuple[Law[FlagSubject], ...]] = (
    Law("a sample's request is parsed, and its body stays as it is", samples_are_read),
    Law("a body that is no request is refused", hostile_bodies_are_refused),
    Law("the request to the provider has the provider's name of the model", the_provider_gets_its_models_name),
    Law("a damaged request is sent or refused", damaged_requests_are_sent_or_refused),
    Law("chunks of any size give the same events", any_chunking_gives_the_same_events),
    Law("two streams at the same time do not change one another", streams_do_not_mix),
    Law("the events of a stream have all its bytes", the_native_way_keeps_every_byte),
    Law("a stream that is cut before its last event is an error", a_cut_stream_is_an_error),
    Law("damaged bytes of a stream are events or an error", damaged_bytes_are_events_or_an_error),
    Law("a stream and the whole reply have the same facts", a_streams_facts_are_those_of_the_whole),
    Law("the tokens of a stream are reported", the_tokens_are_reported),
    Law("the text of a stream is counted, so that a cut stream has a price", what_is_written_is_counted),
    Law("an odd event is read as far as possible", odd_events_are_read_or_bad),
    Law("an odd reply is read as far as possible", odd_bodies_are_read_or_bad),
    Law("the encoder writes a stream that the decoder reads", an_encoded_stream_is_decoded_again),
    Law("a ping changes nothing in the reply", a_ping_changes_nothing),
    Law("an error in a stream is an error for the flag's own decoder", an_error_in_a_stream_is_one),
    Law("every error status of a provider is a problem that clients are told", every_error_is_a_problem),
    Law("the parts of an odd request that are not billed as text are found", odd_requests_have_billed_parts),
    Law("an odd list of models is read or refused", odd_lists_of_models_are_read_or_bad),
    Law("dialect_for returns one of the flag's dialects", the_dialect_is_declared),
    Law("the configuration can set the options", options_can_be_written),
    Law("the options reach worker processes", options_reach_worker_processes),
    *PLACE_LAWS,
)
