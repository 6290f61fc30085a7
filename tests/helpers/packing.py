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
    """Return a zstd frame that does not give the length of its content, as Codex sends it."""
    packer = zstd.ZstdCompressor()
    return packer.compress(data) + packer.flush()


def fast_brotli(data):
    """Compress data with a low quality in the coding `br`.

    The default quality, 11, takes ten seconds for the largest data.
    """
    return brotli.compress(data, quality=4)


BY_NAME = {"gzip": gzip.compress, "deflate": zlib.compress, "br": fast_brotli, "zstd": zstd.compress}
PACKERS = [
    *BY_NAME.items(),
    ("x-gzip", gzip.compress),
    ("deflate", raw_deflate),
    ("zstd", streamed_zstd),
]
