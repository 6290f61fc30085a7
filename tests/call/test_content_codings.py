"""Tests of decoding a request's body: every coding, several codings, damaged bodies, and bodies that expand without
limit.
"""

import gzip
import os
import random
import tracemalloc
import zlib
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.call import content_codings
from gateway.contract.errors import Refused
from tests.helpers.packing import BY_NAME, PACKERS, zstd

LIMIT = 1_000_000


packers = pytest.mark.parametrize(("name", "pack"), PACKERS)


def decoded(body, *headers, limit=LIMIT):
    decoding = content_codings.Decoding(body, content_codings.names(headers), limit)
    while decoding.slice() is not None:
        pass
    return decoding.body


def refusal(body, *headers, limit=LIMIT):
    with pytest.raises(Refused) as refused:
        decoded(body, *headers, limit=limit)
    return refused.value.problem


@packers
@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 999_999])
def test_a_body_in_any_coding_is_as_it_was(name, pack, size):
    for data in (b"x" * size, os.urandom(size)):
        assert decoded(pack(data), name) == data


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ((), []),
        (("",), []),
        (("identity",), []),
        (("Identity, GZIP",), ["gzip"]),
        ((" gzip ,, zstd",), ["gzip", "zstd"]),
        (("gzip", "br"), ["gzip", "br"]),
        (("X-Gzip", "identity"), ["gzip"]),
    ],
)
def test_codings_are_read_from_every_header_of_the_name(headers, names):
    assert content_codings.names(headers) == names


@pytest.mark.parametrize(
    "header", ["lz4", "compress", "gzip, snappy", "aws-chunked", "gzip;q=1", "é" * 300, "*", "\udcff\udcfe"]
)
def test_an_unknown_coding_is_refused_with_the_known_ones(header):
    problem = refusal(b"{}", header)
    assert (problem.code, problem.accept_encoding) == ("unsupported_coding", "gzip, deflate, br, zstd")
    assert len(problem.message) < 200
    assert problem.message.isascii()


def test_more_than_four_codings_are_refused():
    assert decoded(b"", "gzip, gzip, gzip, gzip") == b""
    assert refusal(b"", "gzip, gzip, gzip, gzip, gzip").code == "unsupported_coding"


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300_000), st.lists(st.sampled_from(sorted(BY_NAME)), max_size=4))
def test_codings_one_over_the_other_are_removed_in_reverse(data, names):
    body = data
    for name in names:
        body = BY_NAME[name](body)
    assert decoded(body, ", ".join(names)) == data


@packers
def test_a_body_that_is_cut_anywhere_is_refused(name, pack):
    body = pack(os.urandom(5000))
    for end in (1, 2, 3, 10, len(body) // 2, len(body) - 1):
        assert refusal(body[:end], name).code == "invalid_request"


@packers
def test_a_body_with_more_after_its_end_is_refused(name, pack):
    for more in (b"\0", b"{}", b"more"):
        assert refusal(pack(b"body") + more, name).code == "invalid_request"


@packers
def test_a_body_in_no_coding_is_refused(name, pack):
    assert "Content-Encoding" in refusal(b'{"model": "m"}', name).message


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PACKERS), st.randoms(use_true_random=False))
def test_damage_is_refused_or_harmless(packer, chance: random.Random):
    """Check that a damaged body is refused, or decodes to at most as many bytes as the limit."""
    name, pack = packer
    body = bytearray(pack(bytes(range(256)) * 40))
    for _ in range(chance.randint(1, 4)):
        body[chance.randrange(len(body))] = chance.randrange(256)
    with suppress(Refused):
        assert len(decoded(bytes(body), name)) <= LIMIT


@packers
def test_the_limit_counts_decoded_bytes(name, pack):
    assert len(decoded(pack(b"x" * LIMIT), name)) == LIMIT
    assert refusal(pack(b"x" * (LIMIT + 1)), name).code == "too_large"


@packers
def test_a_body_that_would_become_huge_is_refused_at_the_limit(name, pack):
    """Check that a body that would decode to 20 times the limit is refused after at most three steps of decoding. The
    peak of memory must be below twice the limit.
    """
    limit = 3 * content_codings.SLICE
    body = pack(bytes(20 * limit))
    decoding = content_codings.Decoding(body, [name.removeprefix("x-")], limit)
    slices = []
    tracemalloc.start()
    with pytest.raises(Refused, match="larger than"):
        slices.extend(iter(decoding.slice, None))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(slices) <= 3
    assert peak < 2 * limit


@pytest.mark.parametrize("names", ["gzip, gzip", "zstd, br", "br, deflate, gzip"])
def test_a_limit_holds_below_another_coding(names):
    body = bytes(20 * LIMIT)
    for name in names.split(", "):
        body = BY_NAME[name](body)
    assert refusal(body, names).code == "too_large"


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_frames_one_after_the_other_are_one_body(name):
    pack = BY_NAME[name]
    assert decoded(pack(b"ab") + pack(b"") + pack(b"cd" * 100_000), name) == b"ab" + b"cd" * 100_000
    assert f"after {content_codings.MAX_FRAMES} frames" in refusal(pack(b"") * 100_000, name).message


def test_a_zstd_frame_that_is_skipped_is_no_data():
    skipped = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    assert decoded(skipped + zstd.compress(b"body"), "zstd") == b"body"


def test_a_zstd_window_above_the_codings_maximum_is_refused():
    options = {zstd.CompressionParameter.window_log: 27}
    packer = zstd.ZstdCompressor(options=options)
    assert refusal(packer.compress(b"x") + packer.flush(), "zstd").code == "invalid_request"


@pytest.mark.parametrize("codings", [("gzip",), ("gzip", "gzip"), ("deflate", "gzip")])
def test_a_body_is_decoded_in_slices_that_can_be_reserved(codings):
    """Check that each step of decoding a body adds at most a fixed number of bytes.

    The gateway can therefore reserve the memory before each step.
    """
    body = bytes(5_000_000)
    for name in codings:
        body = gzip.compress(body) if name == "gzip" else zlib.compress(body)
    decoding = content_codings.Decoding(body, codings, 10_000_000)
    sizes = [len(body), *iter(decoding.slice, None)]
    assert len(sizes) > 4
    assert max(after - before for before, after in pairwise(sizes)) <= content_codings.SLICE + content_codings.STEP
    assert decoding.body == bytes(5_000_000)
