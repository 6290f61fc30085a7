"""Tests of rules ("laws") that hold for every conversion between two dialects.

- If a vendor's types allow a request, the provider accepts the converted request, or the gateway refuses it with an
  error that names a field.
- Each field of a request makes a difference, is refused, or is reported as dropped. The exemptions are listed in
  `exempt_members.py`.
- A stream and the corresponding unstreamed reply have the same content, and the client gets the usage that is charged.
- A damaged reply is read as far as possible, or is reported as a failure of the provider.

The registry lists the conversions. Requests are generated from the vendors' own descriptions (`drawn_requests.py`) or
are golden files. Replies are golden files.
"""

import copy
from contextlib import suppress

import orjson
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from gateway.contract.capabilities import capabilities
from gateway.contract.errors import INVALID_REQUEST, BadFrame, Refused, UpstreamFailed
from gateway.contract.flag import Usage
from gateway.pytest_plugin.golden import Mask
from gateway.testkit.laws.chunks import chunkings
from gateway.testkit.laws.mutations import pointers, replaced, without
from tests.golden import files as golden
from tests.helpers.clients import CLIENTS
from tests.helpers.conversion import BASES, CONVERSIONS, HEAD, JUDGES, encoded, without_padding
from tests.helpers.examples import examples
from tests.helpers.fold import fold
from tests.laws.drawn_requests import members, requests
from tests.laws.exempt_members import EXEMPT
from tests.laws.member_values import MEMBER_VALUES, NEEDED_WITH, NEUTRAL, OLDER

every_conversion = pytest.mark.parametrize("conversion", CONVERSIONS.values(), ids=CONVERSIONS)
translated = pytest.mark.parametrize(
    "conversion",
    [conversion for conversion in CONVERSIONS.values() if conversion.way == "translated"],
    ids=lambda conversion: conversion.name,
)
some_examples = settings(
    max_examples=examples(30), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def groups(member):
    """Group the conversions by the value of the attribute `member`.

    A test generates one random example for all conversions of a group. This saves time, because generating is slower
    than converting.
    """
    return {
        value: [each for each in CONVERSIONS.values() if getattr(each, member) == value]
        for value in dict.fromkeys(getattr(each, member) for each in CONVERSIONS.values())
    }


BY_DIALECT, BY_UPSTREAM = groups("dialect"), groups("upstream")


GOLDEN_REQUESTS = {dialect: list(golden.requests(dialect).values()) for dialect in BASES}
GOLDEN_REPLIES = {dialect: golden.replies(dialect) for dialect in BY_UPSTREAM}
every_reply = pytest.mark.parametrize(
    ("conversion", "case"),
    [
        pytest.param(conversion, case, id=f"{conversion.name}-{case}")
        for conversion in CONVERSIONS.values()
        for case in GOLDEN_REPLIES[conversion.upstream]
    ],
)


def base_call(conversion, *, stream):
    more = {"stream_options": {"include_usage": True}} if conversion.dialect == "openai_chat" and stream else {}
    return conversion.call(BASES[conversion.dialect] | more, stream=stream)


# requests


@pytest.mark.parametrize("dialect", BY_DIALECT)
@some_examples
@given(data=st.data())
def test_an_allowed_request_is_accepted_or_refused_by_name(dialect, data):
    """Check each conversion of a random request that a vendor's types allow.

    The provider accepts the converted request, or the gateway refuses it with an error that names a field.
    """
    body = data.draw(requests(dialect, GOLDEN_REQUESTS[dialect]))
    for conversion in BY_DIALECT[dialect]:
        note(conversion.name)
        check_request(conversion, body)


def check_request(conversion, body):
    problem = None
    try:
        call = conversion.call(body)
    except Refused as refused:
        problem = refused.problem
    if problem is not None:
        assert problem.code == INVALID_REQUEST
        assert problem.param
    elif conversion.way == "translated":
        assert call.fault is None
    elif (
        JUDGES[conversion.client.name](orjson.loads(call.client_request.top.body), capabilities(conversion.model))
        is None
    ):
        # the other provider accepts what the client's own provider accepts; the exceptions are a block that only
        # Anthropic's servers make, and two cache breakpoints whose lifetimes cannot stand in this order
        assert call.fault is None or "Input tag" in call.fault or "a ttl='1h'" in call.fault


@pytest.mark.parametrize("dialect", MEMBER_VALUES)
def test_every_documented_member_has_a_value(dialect):
    """Check that each documented field has a value in `MEMBER_VALUES`, and no other field has one."""
    known, documented = set(MEMBER_VALUES[dialect]), set(members(dialect)) | OLDER.get(dialect, set())
    new, gone = sorted(documented - known), sorted(known - documented)
    assert not new, f"new members of {dialect}: {', '.join(new)}; add a value to tests/laws/member_values.py"
    assert not gone, (
        f"members that {dialect} no longer has: {', '.join(gone)}; delete them from tests/laws/member_values.py"
    )


@every_conversion
def test_every_documented_member_counts_or_is_reported(conversion):
    silent = []
    for name, value in MEMBER_VALUES[conversion.dialect].items():
        body = BASES[conversion.dialect] | NEEDED_WITH.get((conversion.dialect, name), {})
        if (conversion.dialect, name) not in NEUTRAL and outcome(conversion, body) == outcome(
            conversion, body | {name: value}
        ):
            silent.append(name)
    assert silent == []


@pytest.mark.parametrize(("dialect", "name"), NEUTRAL)
def test_every_neutral_member_is_one(dialect, name):
    """Check that each field in `NEUTRAL` leaves the converted request unchanged on at least one conversion."""
    body = BASES[dialect] | NEEDED_WITH.get((dialect, name), {})
    changed = body | {name: MEMBER_VALUES[dialect][name]}
    of_dialect = [conversion for conversion in CONVERSIONS.values() if conversion.dialect == dialect]
    assert any(outcome(conversion, body) == outcome(conversion, changed) for conversion in of_dialect)


def outcome(conversion, body):
    """Return what becomes of a request: the name of the refused field, or a pair (upstream request, dropped fields)."""
    try:
        call = conversion.call(body)
    except Refused as refused:
        return refused.problem.param
    return call.upstream_request, call.dropped


def silent_members(conversion):
    """Yield (case, pointer) of each field of a golden request that has no effect and is not reported as dropped."""
    for case, body in golden.requests(conversion.dialect).items():
        dropped = conversion.call(body).dropped
        whole = outcome(conversion, body)
        for at in pointers(body):
            path = "/" + "/".join(map(str, at))
            reported = any(f"{path}/".startswith(f"/{pointer.strip('/')}/") for pointer in dropped)
            if not reported and outcome(conversion, without(body, at)) == whole:
                yield case, path


def exemption(conversion, path):
    """Return the key in `EXEMPT` that covers the field at `path`, or None."""
    steps = path.split("/")
    for key in EXEMPT:
        pair, pointer = key
        expected = pointer.split("/")
        if pair != (conversion.dialect, conversion.upstream) or len(steps) != len(expected):
            continue
        if all(want in ("*", step) for want, step in zip(expected, steps, strict=True)):
            return key
    return None


@translated
def test_every_member_of_a_golden_request_counts_or_is_reported(conversion):
    """Check that each field of a golden request has an effect, is reported as dropped, or is exempt.

    Every exemption must be needed.
    """
    silent = {(case, path): exemption(conversion, path) for case, path in silent_members(conversion)}
    assert [member for member, key in silent.items() if key is None] == []
    assert {key for key in EXEMPT if key[0] == (conversion.dialect, conversion.upstream)} == set(silent.values())


def test_every_exemption_is_of_a_conversion():
    pairs = {(conversion.dialect, conversion.upstream) for conversion in CONVERSIONS.values()}
    assert {pair for pair, _ in EXEMPT} <= pairs


# replies


@every_reply
def test_a_stream_says_what_the_whole_reply_says(conversion, case):
    whole, events = GOLDEN_REPLIES[conversion.upstream][case]
    body = base_call(conversion, stream=False).whole(whole)
    streamed = base_call(conversion, stream=True).events(encoded(conversion.provider, conversion.upstream, events))
    client = CLIENTS[conversion.client.name]
    folded = fold(conversion.dialect, streamed)
    assert client.read_reply(folded).without_ids() == client.read_reply(body).without_ids()


@every_reply
@pytest.mark.parametrize("stream", [False, True])
def test_the_client_is_shown_the_usage_that_is_charged(conversion, case, stream):
    whole, events = GOLDEN_REPLIES[conversion.upstream][case]
    call = base_call(conversion, stream=stream)
    meter = conversion.client.meter(call.client_request, conversion.target(), HEAD)
    if stream:
        for event in call.events(encoded(conversion.provider, conversion.upstream, events)):
            meter.feed(event)
    else:
        meter.whole(orjson.dumps(call.whole(whole)))
    charged, display = call.meter.facts(), meter.facts()
    assert charged.reported
    assert display.reported
    assert token_counts(display.usage, conversion.dialect) == token_counts(charged.usage, conversion.dialect)
    assert len(display.tools) == len(charged.tools)


def token_counts(usage: Usage, dialect):
    """Return the token counts that replies in a dialect have. The count `in` includes cache reads and writes."""
    written = usage.cache_write_5m + usage.cache_write_1h
    counts = {"in": usage.input + usage.cache_read + written, "read": usage.cache_read, "out": usage.output}
    if dialect in ("anthropic_messages", "bedrock_converse"):
        counts |= {"5m": usage.cache_write_5m, "1h": usage.cache_write_1h}
    if dialect != "bedrock_converse":
        counts["reasoning"] = usage.reasoning
    return counts


@every_reply
def test_any_chunking_gives_the_same_events(conversion, case):
    whole = encoded(conversion.provider, conversion.upstream, GOLDEN_REPLIES[conversion.upstream][case][1])
    events = masked_events(conversion, [whole])
    for chunks in chunkings(whole):
        assert masked_events(conversion, chunks) == events


def masked_events(conversion, chunks):
    events = base_call(conversion, stream=True).events(*chunks)
    mask = Mask()
    return [(event.kind, mask(without_padding(event.payload.decode()))) for event in events]


odd = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 10) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["text", "type", "index"]), inner),
    max_leaves=4,
)


@st.composite
def damaged(draw, events):
    """Draw a stream in which events are missing, repeated or misplaced, or in which some value is odd."""
    events = copy.deepcopy(events)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(events) - 1))
        kind, data = events[at]
        damage = draw(st.sampled_from(["value", "missing", "again", "moved", "gone"]))
        if damage == "gone" and len(events) > 1:
            del events[at]
        elif damage in ("again", "moved"):
            events.insert(draw(st.integers(0, len(events))), copy.deepcopy(events[at]))
        elif places := list(pointers(data)):
            place = draw(st.sampled_from(places))
            events[at] = [kind, without(data, place) if damage == "missing" else replaced(data, place, draw(odd))]
    return events


every_upstream = pytest.mark.parametrize("upstream", BY_UPSTREAM)


@every_upstream
@some_examples
@given(data=st.data())
def test_a_damaged_stream_is_read_or_fails_as_the_providers(upstream, data):
    """Check that a damaged stream raises only exceptions that report a fault of the provider, and that no usage count
    is negative.
    """
    case = data.draw(st.sampled_from(sorted(GOLDEN_REPLIES[upstream])))
    events = data.draw(damaged(GOLDEN_REPLIES[upstream][case][1]))
    for conversion in BY_UPSTREAM[upstream]:
        note(conversion.name)
        call = base_call(conversion, stream=True)
        with suppress(UpstreamFailed):
            call.streamed(encoded(conversion.provider, upstream, events))
        usage = call.meter.facts().usage
        assert min(usage.as_dict().values()) >= 0


@every_upstream
@some_examples
@given(data=st.data())
def test_a_damaged_reply_is_read_or_fails_as_the_providers(upstream, data):
    """Check that a damaged unstreamed reply raises no other exception than `BadFrame`, which reports a fault of the
    provider.
    """
    case = data.draw(st.sampled_from(sorted(GOLDEN_REPLIES[upstream])))
    whole = GOLDEN_REPLIES[upstream][case][0]
    place = data.draw(st.sampled_from(list(pointers(whole))))
    whole = replaced(whole, place, data.draw(odd)) if data.draw(st.booleans()) else without(whole, place)
    for conversion in BY_UPSTREAM[upstream]:
        note(conversion.name)
        with suppress(BadFrame):
            base_call(conversion, stream=False).whole(whole)
