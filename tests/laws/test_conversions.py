"""What holds for every conversion that the registry finds: bodies of any allowed kind, no silent loss, one truth both ways.

The conversions are found, not named. Requests are drawn from the vendors' own descriptions (`drawn_requests.py`), or are those of the
golden files; replies are the golden files' too.
"""

import copy
import re
from contextlib import suppress

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.contract.capabilities import capabilities
from gateway.contract.errors import INVALID_REQUEST, BadFrame, Refused, UpstreamFailed
from gateway.contract.flag import Usage
from tests.golden import files as golden
from tests.helpers.conversion import CONVERSIONS, HEAD, JUDGES, Mask, encoded, without_padding
from tests.helpers.reply_values import told, told_by
from tests.laws.drawn_requests import BASES, members, requests
from tests.laws.member_values import NEEDS, NEUTRAL, OLDER, TELLING

every_conversion = pytest.mark.parametrize("conversion", CONVERSIONS.values(), ids=CONVERSIONS)
translated = pytest.mark.parametrize(
    "conversion",
    [conversion for conversion in CONVERSIONS.values() if conversion.way == "translated"],
    ids=lambda conversion: conversion.name,
)
few = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
fewer = settings(few, max_examples=25)


SOUND = {dialect: list(golden.requests(dialect).values()) for dialect in BASES}
REPLIES = {dialect: golden.replies(dialect) for dialect in {conversion.upstream for conversion in CONVERSIONS.values()}}
answered = pytest.mark.parametrize(
    ("conversion", "case"),
    [
        pytest.param(conversion, case, id=f"{conversion.name}-{case}")
        for conversion in CONVERSIONS.values()
        for case in REPLIES[conversion.upstream]
    ],
)


def called(conversion, *, stream):
    more = {"stream_options": {"include_usage": True}} if conversion.dialect == "openai_chat" and stream else {}
    return conversion.call(BASES[conversion.dialect] | more, stream=stream)


# requests


@every_conversion
@few
@given(data=st.data())
def test_what_a_vendors_types_allow_is_refused_by_its_field_or_taken_by_the_provider(conversion, data):
    body = data.draw(requests(conversion.dialect, SOUND[conversion.dialect]))
    problem = None
    try:
        passed = conversion.call(body)
    except Refused as refused:
        problem = refused.problem
    if problem is not None:
        assert problem.code == INVALID_REQUEST
        assert problem.param
    elif conversion.way == "translated":
        assert passed.fault is None
    elif (
        JUDGES[conversion.client.name](orjson.loads(passed.client_request.top.body), capabilities(conversion.model))
        is None
    ):
        # what its own provider takes the other one takes too; or it names a block that only Anthropic's servers make, or
        # two marks whose lifetimes cannot stand in this order, one of them the top-level one
        assert passed.fault is None or "Input tag" in passed.fault or "a ttl='1h'" in passed.fault


@pytest.mark.parametrize("dialect", TELLING)
def test_the_telling_values_are_of_all_documented_members(dialect):
    """The one test that a new version of a vendor's package fails; no other draws a member without a telling value."""
    known, documented = set(TELLING[dialect]), set(members(dialect)) | OLDER.get(dialect, set())
    new, gone = sorted(documented - known), sorted(known - documented)
    assert not new, f"new members of {dialect}: {', '.join(new)}; say in tests/laws/telling.py what becomes of them"
    assert not gone, f"members that {dialect} no longer has: {', '.join(gone)}; take them out of tests/laws/telling.py"


@every_conversion
def test_every_documented_member_is_carried_refused_or_dropped_aloud(conversion):
    silent = []
    for name, value in TELLING[conversion.dialect].items():
        body = BASES[conversion.dialect] | NEEDS.get((conversion.dialect, name), {})
        if (conversion.dialect, name) not in NEUTRAL and outcome(conversion, body) == outcome(
            conversion, body | {name: value}
        ):
            silent.append(name)
    assert silent == []


def outcome(conversion, body):
    """All that can be known of what became of a request."""
    try:
        passed = conversion.call(body)
    except Refused as refused:
        return refused.problem.param
    return passed.upstream_request, passed.dropped


def pointers(value, at=()):
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, each in inner:
        yield (*at, step)
        yield from pointers(each, (*at, step))


def without(body, at):
    body = copy.deepcopy(body)
    holder = body
    for step in at[:-1]:
        holder = holder[step]
    del holder[at[-1]]
    return body


SAYS_NOTHING = [
    r".*/type",  # what stands there can be of one kind only, or its other members tell
    r".*/(media_type|format)",  # bytes tell their own format
    r".*/(title|filename)",  # one that Converse does not take is replaced by another
    r".*/cache_control/ttl|.*/cachePoint(/.*)?",  # where the mark itself is dropped aloud
    r".*/(toolUse/)?input|.*/arguments|.*/description|.*/annotations",  # an empty one
    r".*/4/content|.*/toolResult/content",  # an empty result
    r".*/json_schema/(name|strict)|.*/jsonSchema/name|text/format/(name|strict)",  # a label, and what happens anyway
    r".*/additionalProperties",  # is put in where the provider demands it
    r".*/status|input/\d+/id",  # of an item that is complete; of an error whose text says so
    r"metadata(/.*)?|service_tier|stream_options(/.*)?|additionalModelResponseFieldPaths(/.*)?|n|include(/.*)?",
    r"reasoning/summary|store|input/1/summary(/.*)?|.*/reasoning_content|.*/documentIndex|.*/content/2/detail|tools/1/strict",
    # what happens anyway, or what is said a second time in the signed form beside it
]
_SAYS_NOTHING = re.compile("|".join(f"(?:{pattern})" for pattern in SAYS_NOTHING))


@translated
def test_every_member_of_the_golden_requests_counts_or_is_dropped_aloud(conversion):
    silent = []
    for case, body in golden.requests(conversion.dialect).items():
        lost = conversion.call(body).dropped
        whole = outcome(conversion, body)
        for at in pointers(body):
            path = "/".join(map(str, at))
            reported = any(f"/{path}/".startswith(f"{pointer}/") for pointer in lost)
            if not reported and not _SAYS_NOTHING.fullmatch(path) and outcome(conversion, without(body, at)) == whole:
                silent.append((case, path))
    assert silent == []


# replies


@answered
def test_a_stream_tells_what_the_whole_reply_tells(conversion, case):
    whole, events = REPLIES[conversion.upstream][case]
    body = called(conversion, stream=False).whole(whole)
    streamed = called(conversion, stream=True).events(encoded(conversion.provider, conversion.upstream, events))
    assert told_by(conversion.dialect, streamed) == told(conversion.dialect, body)


@answered
@pytest.mark.parametrize("stream", [False, True])
def test_the_client_is_told_the_usage_that_is_charged(conversion, case, stream):
    whole, events = REPLIES[conversion.upstream][case]
    passed = called(conversion, stream=stream)
    meter = conversion.client.meter(passed.client_request, conversion.target(), HEAD)
    if stream:
        for event in passed.events(encoded(conversion.provider, conversion.upstream, events)):
            meter.feed(event)
    else:
        meter.whole(orjson.dumps(passed.whole(whole)))
    charged, shown = passed.meter.facts(), meter.facts()
    assert charged.reported
    assert shown.reported
    assert kinds(shown.usage, conversion.dialect) == kinds(charged.usage, conversion.dialect)
    assert len(shown.tools) == len(charged.tools)


def kinds(usage: Usage, dialect):
    """Those that a dialect keeps apart; all that goes in is in the sum of the first three."""
    written = usage.cache_write_5m + usage.cache_write_1h
    found = {"in": usage.input + usage.cache_read + written, "read": usage.cache_read, "out": usage.output}
    if not dialect.startswith("openai"):
        found |= {"5m": usage.cache_write_5m, "1h": usage.cache_write_1h}
    if dialect != "bedrock_converse":
        found["reasoning"] = usage.reasoning
    return found


@answered
@fewer
@given(data=st.data())
def test_any_chunking_of_the_providers_bytes_gives_the_same_events(conversion, case, data):
    whole = encoded(conversion.provider, conversion.upstream, REPLIES[conversion.upstream][case][1])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    chunks = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert shown(conversion, chunks) == shown(conversion, [whole])


def shown(conversion, chunks):
    events = called(conversion, stream=True).events(*chunks)
    mask = Mask()
    return [(event.kind, mask(without_padding(event.payload.decode()))) for event in events]


odd = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 10) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["text", "type", "index"]), inner),
    max_leaves=4,
)


@st.composite
def damaged(draw, events):
    """A stream with events missing, repeated or out of place, or with an odd value somewhere."""
    events = copy.deepcopy(events)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(events) - 1))
        kind, data = events[at]
        what = draw(st.sampled_from(["value", "missing", "again", "moved", "gone"]))
        if what == "gone" and len(events) > 1:
            del events[at]
        elif what in ("again", "moved"):
            events.insert(draw(st.integers(0, len(events))), copy.deepcopy(events[at]))
        elif places := list(pointers(data)):
            place = draw(st.sampled_from(places))
            events[at] = [kind, without(data, place) if what == "missing" else replaced(data, place, draw(odd))]
    return events


def replaced(data, at, value):
    data = copy.deepcopy(data)
    holder = data
    for step in at[:-1]:
        holder = holder[step]
    holder[at[-1]] = value
    return data


@every_conversion
@few
@given(data=st.data())
def test_a_damaged_stream_is_read_as_far_as_it_can_be_or_is_the_providers_failure(conversion, data):
    case = data.draw(st.sampled_from(sorted(REPLIES[conversion.upstream])))
    events = data.draw(damaged(REPLIES[conversion.upstream][case][1]))
    passed = called(conversion, stream=True)
    with suppress(UpstreamFailed):
        passed.streamed(encoded(conversion.provider, conversion.upstream, events))
    usage = passed.meter.facts().usage
    assert min(usage.as_dict().values()) >= 0


@every_conversion
@few
@given(data=st.data())
def test_a_damaged_reply_is_read_as_far_as_it_can_be_or_is_the_providers_failure(conversion, data):
    case = data.draw(st.sampled_from(sorted(REPLIES[conversion.upstream])))
    whole = REPLIES[conversion.upstream][case][0]
    place = data.draw(st.sampled_from(list(pointers(whole))))
    whole = replaced(whole, place, data.draw(odd)) if data.draw(st.booleans()) else without(whole, place)
    with suppress(BadFrame):
        called(conversion, stream=False).whole(whole)
