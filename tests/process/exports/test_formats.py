"""The content of exported objects: the form of a record in a golden file, and each format read back."""

from pathlib import Path

import msgspec
import pytest

from gateway.contract.record import Direct
from gateway.process.exports.formats import ENCODERS
from gateway.process.exports.values import exported
from gateway.pytest_plugin.golden import compare
from gateway.store.captured import CapturedBodies, CapturedBody
from tests.helpers.records import NOON, record
from tests.process.exports.reading import cbor_records, json_records

BODIES = CapturedBodies(
    "call-1",
    "ada@example.com",
    NOON,
    CapturedBody({"user-agent": "curl/8"}, b'{"model": "m"}', cut=False),
    CapturedBody({"content-type": "application/octet-stream"}, b"\xff\x00", cut=True),
)
CALLS = [
    (7, record(id="call-1", node="n1", extra={"web_search": 2}), BODIES),
    (8, record(id="call-2", identity="tag:ci,tag:prod", provider="", model="", cost=None, status=403), None),
    (9, record(id="call-3", direct=Direct("GET", "/direct/openai/v1/files", 0, 120)), None),
]


def content(format_):
    encoder = ENCODERS[format_]()
    for call in CALLS:
        encoder.add(*call)
    assert encoder.size > 0
    return encoder.finish()


def test_the_form_of_a_record(request):
    """Check the form against a golden file. Readers of earlier exports depend on it."""
    whole = [msgspec.to_builtins(exported(*call)) for call in CALLS]
    path = Path(__file__).with_name("records.json")
    compare(path, whole, rewrite=request.config.getoption("--rewrite-golden"))


def test_a_cbor_sequence_has_each_record():
    read = cbor_records(content("cbor.zstd"))
    assert read == [exported(*call) for call in CALLS]
    assert read[0]["capture"]["rawResponseBody"] == b"\xff\x00"


def test_lines_of_json_have_each_record():
    read = json_records(content("json.gz"))
    assert [each["capture_id"] for each in read] == ["call-1", "call-2", "call-3"]
    assert read[0]["capture"]["rawResponseBody"] == "/wA="
    assert read[1:] == [exported(*call) for call in CALLS[1:]]


@pytest.mark.parametrize("format_", ENCODERS)
def test_the_same_calls_are_the_same_bytes(format_):
    assert content(format_) == content(format_)
