"""Tests of the content of exported objects. A record is compared with a golden file, and the objects of each format are
read again.
"""

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from gateway.contract.record import Direct, Record
from gateway.process.exports.formats import ENCODERS
from gateway.process.exports.parquet import _schema
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
    if format_ == "parquet":
        pytest.importorskip("pyarrow")
    encoder = ENCODERS[format_]()
    for call in CALLS:
        encoder.add(*call)
    assert encoder.size > 0
    return encoder.finish()


def test_the_form_of_a_record(request):
    """Check that exported records have the form in a golden file. Programs that read earlier exports depend on this
    form.
    """
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


def test_a_table_has_each_record():
    pytest.importorskip("pyarrow")
    from pyarrow import BufferReader, parquet

    calls = [
        (7, record(id="call-1", extra={"web_search": 2}, charges={"daily": 5}, headers={"x-team": "alpha"}), None),
        (8, record(id="call-2", cost=None, first_event_ms=None, tools=(), at=NOON + 0.25), None),
        *[(number, record(id=f"call-{number}"), None) for number in range(9, 300)],
    ]
    encoder = ENCODERS["parquet"]()
    for call in calls:
        encoder.add(*call)
    table = parquet.read_table(BufferReader(encoder.finish()))
    first, second, *rest = table.to_pylist()
    assert len(rest) == 291
    assert (first["id"], first["input_tokens"], first["tools"]) == ("call-1", 100, ["get_weather"])
    assert (first["cost_usd"], first["charges_usd"]) == (Decimal("0.001234567"), [("daily", Decimal("0.000000005"))])
    assert (first["extra"], first["headers"], first["stream"]) == ([("web_search", 2)], [("x-team", "alpha")], True)
    assert (second["cost_usd"], second["first_event_ms"], second["at"].timestamp()) == (None, None, NOON + 0.25)


def test_a_table_has_every_field_of_a_record():
    arrow = pytest.importorskip("pyarrow")
    names = {name.removesuffix("_usd") for name in _schema(arrow).names}
    assert {*Record.__struct_fields__} - {"usage"} == {name for name in names if not name.endswith("_tokens")}


@pytest.mark.parametrize("format_", ENCODERS)
def test_the_same_calls_are_the_same_bytes(format_):
    assert content(format_) == content(format_)
