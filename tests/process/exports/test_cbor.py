"""Tests of encoding values as CBOR. The results are compared with the examples of RFC 8949, and decoded by another
library.
"""

import pytest

from gateway.process.exports.cbor import encoded

EXAMPLES = [
    (0, "00"), (1, "01"), (10, "0a"), (23, "17"), (24, "1818"), (25, "1819"), (100, "1864"), (1000, "1903e8"),
    (1000000, "1a000f4240"), (1000000000000, "1b000000e8d4a51000"), (18446744073709551615, "1bffffffffffffffff"),
    (-1, "20"), (-10, "29"), (-100, "3863"), (-1000, "3903e7"), (-18446744073709551616, "3bffffffffffffffff"),
    (1.1, "fb3ff199999999999a"), (1.0e300, "fb7e37e43c8800759c"), (-4.1, "fbc010666666666666"),
    (False, "f4"), (True, "f5"), (None, "f6"),
    (b"", "40"), (bytes.fromhex("01020304"), "4401020304"),
    ("", "60"), ("a", "6161"), ("IETF", "6449455446"), ('"\\', "62225c"), ("\u00fc", "62c3bc"), ("\u6c34", "63e6b0b4"),
    ([], "80"), ([1, 2, 3], "83010203"), ([1, [2, 3], [4, 5]], "8301820203820405"),
    (list(range(1, 26)), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
    ({}, "a0"), ({"a": 1, "b": [2, 3]}, "a26161016162820203"), (["a", {"b": "c"}], "826161a161626163"),
]  # fmt: skip
"""Values and their encodings (RFC 8949, appendix A)."""


@pytest.mark.parametrize(("value", "data"), EXAMPLES, ids=[data[:24] for _, data in EXAMPLES])
def test_the_examples_of_the_standard(value, data):
    assert encoded(value).hex() == data


def test_a_library_reads_what_was_encoded():
    cbor2 = pytest.importorskip("cbor2")
    value = {"text": "ä" * 300, "bytes": b"\0" * 70_000, "list": list(range(300)), "none": None, "cost": 0.1}
    assert cbor2.loads(encoded(value)) == value
    assert cbor2.loads(encoded("\ud800")) == "?"


@pytest.mark.parametrize(
    ("value", "error"), [({1, 2}, TypeError), (2**64, OverflowError), (-(2**64) - 1, OverflowError)]
)
def test_other_values_are_refused(value, error):
    with pytest.raises(error):
        encoded(value)
