"""Tests of damaged requests, replies and streams in native calls: client and provider have the same API format.

The function `steps` of each plugin is tested too.
"""

import json
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.call.sessions import Sessions
from gateway.contract.capabilities import capabilities
from gateway.contract.errors import INTERNAL, BadFrame, Problem, Refused, UpstreamFailed
from gateway.contract.facts import Facts
from gateway.contract.flag import ClientRequest, Fetch, Head, StepResponse, Target
from gateway.money.quotas.estimate import estimate, measure
from gateway.testkit.render.dialects import rendered
from gateway.testkit.scenarios import Canned, Tokens, Tool
from tests.fuzz.damage import CORPUS, bytes_changed, changed, replies, requests, stream_of
from tests.helpers.clients import CLIENTS
from tests.helpers.conversion import CLAUDE, request_of
from tests.helpers.examples import examples
from tests.helpers.own_plugins import discover_own

FLAGS = discover_own().flags
FILE = b"%PDF-1.4 a file behind a URL"
DIALECTS = {flag: client.dialect for flag, client in CLIENTS.items()}
RENDERED = rendered("openai_responses", Canned(("Hi",), tools=(Tool("a", {"x": 1}),), tokens=Tokens(5, 6)))
ERRORS = [
    {"type": "error", "error": {"type": "overloaded_error", "message": "m"}, "request_id": "r"},
    {"error": {"message": "m", "type": "server_error", "param": None, "code": "c"}},
    {"message": "m", "__type": "ThrottlingException"},
]
STATUSES = (200, 201, 400, 401, 404, 408, 413, 424, 429, 500, 503, 529)
fuzzed = settings(max_examples=examples(80), deadline=None, suppress_health_check=list(HealthCheck))
flags = st.sampled_from(sorted(CLIENTS))


def target_of(flag):
    caps = capabilities(CLAUDE)
    return Target("p", flag, CLAUDE, FLAGS[flag].dialect_for(caps), caps)


def replies_of(flag):
    """Return two lists for a compatibility flag: unstreamed replies, and streams.

    They are golden replies. Responses has no golden replies, so both lists have one rendered reply.
    """
    return ([RENDERED[1]], [list(map(list, RENDERED[0]))]) if flag == "openai_responses" else replies(DIALECTS[flag])


def reader_of(flag, *, stream):
    """Return a golden request in the flag's API format, as the flag parses it. The damaged replies are read as answers
    to it.
    """
    return FLAGS[flag].parse(request_of(FLAGS[flag], requests(DIALECTS[flag])[0], stream=stream))


def dropped(_path):
    return None


def stepped(flag, request):
    """Return the request after the plugin's function `steps` has changed it.

    Every file that `steps` fetches by URL is the same PDF.
    """
    steps = flag.steps(request, target_of(flag.name), dropped)
    if isinstance(steps, ClientRequest):
        return steps
    try:
        wanted = next(steps)
        while True:
            wanted = steps.send(
                StepResponse(200, {"content-type": "application/pdf"}, FILE if isinstance(wanted, Fetch) else b"")
            )
    except StopIteration as end:
        return end.value


def check_request(flag, body, *, stream=False):
    with suppress(Refused):
        request = flag.parse(request_of(flag, body, stream=stream))
        assert Sessions(b"k" * 32).id_of(request, "alice@example.com", "agent", flag)
        assert estimate(request, flag.limit(request), [1000], measure(request.top, flag.billed_parts)).tokens >= 0
        built = flag.build(stepped(flag, request), target_of(flag.name), dropped)
        assert isinstance(json.loads(built.body), dict)


def check_stream(flag, data):
    request = reader_of(flag.name, stream=True)
    decoder = flag.decoder(request, target_of(flag.name), Head(200, {}))
    encoder = flag.encoder(request)
    meter = flag.meter(request, target_of(flag.name), Head(200, {}))
    with suppress(UpstreamFailed):
        for event in (*decoder.feed(data), *decoder.close()):
            encoder.feed(event)
            with suppress(BadFrame):
                meter.feed(event)
            with suppress(BadFrame):
                assert flag.output_bytes(event) >= 0
    assert meter.facts().usage.output >= 0
    assert encoder.fail(Problem(INTERNAL, "a failure"))


def check_whole(flag, data):
    request = reader_of(flag.name, stream=False)
    meter = flag.meter(request, target_of(flag.name), Head(200, {}))
    with suppress(UpstreamFailed):
        meter.whole(data)
        flag.decoder(request, target_of(flag.name), Head(200, {})).whole(data)
    assert isinstance(meter.facts(), Facts)


@fuzzed
@given(st.data(), flags, st.booleans())
def test_a_damaged_request_is_read_or_refused(data, name, stream):
    check_request(FLAGS[name], data.draw(changed(requests(DIALECTS[name]))), stream=stream)


@fuzzed
@given(st.data(), flags)
def test_a_damaged_stream_is_counted_and_ends(data, name):
    stream = stream_of(name, data.draw(changed(replies_of(name)[1])))
    check_stream(FLAGS[name], data.draw(bytes_changed([stream])) if data.draw(st.booleans()) else stream)


@fuzzed
@given(st.data(), flags)
def test_a_damaged_reply_is_counted(data, name):
    body = json.dumps(data.draw(changed(replies_of(name)[0]))).encode()
    check_whole(FLAGS[name], data.draw(bytes_changed([body])) if data.draw(st.booleans()) else body)


@fuzzed
@given(st.data(), flags, st.sampled_from(STATUSES))
def test_a_damaged_error_has_a_status_or_is_none(data, name, status):
    body = json.dumps(data.draw(changed(ERRORS))).encode()
    damaged = data.draw(bytes_changed([body])) if data.draw(st.booleans()) else body
    problem = FLAGS[name].problem(Head(status, {"x-amzn-errortype": "ThrottlingException:"}), damaged)
    assert problem is not None or status < 400
    if problem is not None:
        assert FLAGS[name].error(problem)[0] >= 400


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_an_input_that_once_failed_does_so_no_more(path):
    kept = json.loads(path.read_text())
    for flag in (FLAGS[name] for name, dialect in DIALECTS.items() if dialect == kept["dialect"]):
        if "request" in kept:
            check_request(flag, kept["request"])
        elif "whole" in kept:
            check_whole(flag, kept["whole"].encode("latin-1"))
        else:
            check_stream(flag, kept["stream"].encode())
