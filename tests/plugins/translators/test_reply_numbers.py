"""Tests of the token counts and costs that a provider reports, on every conversion, streamed and unstreamed.

- A number that is not plausible is ignored, and the client gets the rest of the reply.
- A reply with a number that is not JSON, such as NaN, is an error of the provider.
- No number makes a plugin fail.
"""

import orjson
import pytest

from gateway.contract.errors import BadFrame, UpstreamFailed
from gateway.testkit.render.dialects import rendered
from gateway.testkit.scenarios import Canned, Tokens
from gateway_plugins.shared import lenient
from tests.helpers.conversion import ALL_CONVERSIONS, BASES, encoded
from tests.helpers.json_faults import changed, paths

every_conversion = pytest.mark.parametrize("conversion", ALL_CONVERSIONS.values(), ids=ALL_CONVERSIONS)
CANNED = Canned(("Hi", " you"), tokens=Tokens(50, 60, 7, 3, 4))
NUMBERS = ["1e300", "-1", "1.5", '"x"', "null", "[]", "18446744073709551616"]
NO_JSON = ["NaN", "1e400"]


def reply(conversion):
    """Return the provider's reply as the events of a stream and as an unstreamed body. In Chat, both report a cost."""
    events, whole = rendered(conversion.upstream, CANNED)
    if conversion.upstream == "openai_chat":
        for data in [whole, *(data for _, data in events if data.get("usage"))]:
            data["usage"]["cost"] = 0.5
    return events, whole


def usage_paths(data):
    """Return the paths of the values inside fields whose name contains "usage"."""
    return [path for path in paths(data) if any("usage" in str(name).lower() for name in path[:-1])]


def put(data, text):
    """Return the data with a number, given as text, in place of the placeholder `"%NUMBER%"`."""
    return data.replace(b'"%NUMBER%"', text.encode())


def stream(conversion, events, number, path, text):
    """Return the bytes of the stream `events`. In the event with the index `number`, the value at `path` is replaced by
    `text`.
    """
    kind, data = events[number]
    payload = orjson.dumps(changed(data, path, "%NUMBER%"))
    if "bedrock" in conversion.provider.name:  # the length of a frame is in its head
        payload = put(payload, text)
    sent = [*events[:number], (kind, payload), *events[number + 1 :]]
    if conversion.name == "gemini_generate_content__gemini_generate_content":  # a client that reads an array
        return b"[" + b",".join(put(packed(data), text) for _, data in sent) + b"]"
    return put(encoded(conversion.provider, conversion.upstream, sent), text)


def packed(data):
    return data if isinstance(data, bytes) else orjson.dumps(data)


def outcomes(conversion, texts):
    """Replace each value in the usage of a provider's reply by each number in `texts`, streamed and unstreamed.

    Yield (number as text, path of the replaced value, result of `settled`).
    """
    events, whole = reply(conversion)
    body = BASES[conversion.dialect]
    for text in texts:
        for path in usage_paths(whole):
            call = conversion.call(body)
            yield text, path, settled(call, call.whole, put(orjson.dumps(changed(whole, path, "%NUMBER%")), text))
        for number, (_, data) in enumerate(events):
            if text in NO_JSON and conversion.provider.name == "bedrock_model_invoke":
                continue  # this encoder reads events
            for path in usage_paths(data):
                call = conversion.call(body, stream=True)
                yield text, path, settled(call, call.streamed, stream(conversion, events, number, path, text))


def settled(call, read, data):
    """Read a reply with the method `read` of a call. Return (error, None) if it fails, and (None, usage of the reply)
    if it succeeds.
    """
    try:
        read(data)
    except (BadFrame, UpstreamFailed) as error:
        return error, None
    return None, call.meter.facts()


@every_conversion
def test_a_count_that_is_not_plausible_costs_no_reply(conversion):
    wrong = {(text, path): error for text, path, (error, _) in outcomes(conversion, NUMBERS) if error is not None}
    assert wrong == {}


@every_conversion
def test_a_literal_that_is_not_json_is_an_error_of_the_provider(conversion):
    carried = [(text, path) for text, path, (error, _) in outcomes(conversion, NO_JSON) if error is None]
    assert carried == []


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (12, 12), (12.0, 12), ("12", 12), (0, 0), (10**9, 10**9), (1e9, 10**9), (10**9 + 1, None), (1e300, None),
        (-1, None), (1.5, None), ("1.5", None), ("-1", None), ("9" * 5000, None), ("", None), (True, None),
        (None, None), ([], None), (float("nan"), None), (float("inf"), None),
    ],
)  # fmt: skip
def test_a_count_is_a_whole_number_in_any_form(value, number):
    assert lenient.count(value) == number


@pytest.mark.parametrize("cost", ["1e300", "1e8", "-1", "18446744073709551616", '"0.5"', "true"])
def test_a_cost_that_is_not_plausible_is_not_charged(cost):
    costs = [
        facts.charged
        for _, path, (_, facts) in outcomes(ALL_CONVERSIONS["openai_chat__openai_chat"], [cost])
        if path[-1] == "cost"
    ]
    assert costs == [None, None]
