"""Reads exported objects, as their users do."""

import gzip
import io
import json

import pytest
from backports import zstd


def cbor_records(data):
    """Return the records of a CBOR sequence that is compressed with zstd."""
    cbor2 = pytest.importorskip("cbor2")
    stream = io.BytesIO(zstd.decompress(data))
    records = []
    while stream.tell() < len(stream.getbuffer()):
        records.append(cbor2.load(stream))
    return records


def json_records(data):
    return [json.loads(line) for line in gzip.decompress(data).splitlines()]


def exported_ids(folder):
    """Return the ids of the calls in all complete files of a folder, in the order of the files' names."""
    return [
        each["capture_id"] for file in sorted(folder.glob("*.jsonl.gz")) for each in json_records(file.read_bytes())
    ]
