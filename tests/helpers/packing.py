"""Encoders of the content codings, for tests that send compressed bodies."""

import gzip
import sys
import zlib

import pytest

brotli = pytest.importorskip("brotli")
zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def streamed_zstd(data):
    """Return a frame without the length of its content, as Codex sends it."""
    packer = zstd.ZstdCompressor()
    return packer.compress(data) + packer.flush()


BY_NAME = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress}
PACKERS = [
    *BY_NAME.items(),
    ("x-gzip", gzip.compress),
    ("deflate", raw_deflate),
    ("zstd", streamed_zstd),
]
