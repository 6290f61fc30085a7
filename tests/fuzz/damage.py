"""Damaged requests and replies: golden files with a few changes of their JSON or their bytes."""

import copy
import json
from functools import cache
from pathlib import Path

from hypothesis import strategies as st

from gateway.contract.framing import sse
from tests.golden import files
from tests.helpers.wires import framed

HOSTILE = [
    None, True, 0, -1, 10**30, 1e308, float("nan"), "", " ", "\x00", "\ud800", "{", '{"a": ', "a" * 300, [], {}, [[]],
    [None], {"": None}, {"type": None}, {"type": "text"}, {"type": []}, {"cachePoint": 1}, {"index": -1},
]  # fmt: skip
"""Values that a client or a provider might send anywhere."""
MOST_CHANGES = 3
CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.json"))
"""The inputs that failed in the past: requests, and providers' replies and streams. Each has its dialect.

The bytes of a reply are encoded as Latin-1."""


@cache
def requests(dialect):
    return list(files.requests(dialect).values())


@cache
def replies(dialect):
    """Return two lists for a dialect: the unstreamed replies, and the streams. A stream is a list of (event type,
    data).
    """
    given = files.replies(dialect).values()
    return [whole for whole, _ in given], [events for _, events in given]


def stream_of(provider, events):
    """Return the bytes of a provider's stream with these events.

    An event is a pair (event type, data). Damaged events that are no such pair are left out.
    """
    pairs = [pair for pair in events if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)]
    if provider.startswith("bedrock_"):
        return framed(provider, pairs)[0]
    names = ["" if provider == "openai_chat" else kind for kind, _ in pairs]
    return b"".join(sse.encode(json.dumps(data).encode(), name) for name, (_, data) in zip(names, pairs, strict=True))


@st.composite
def changed(draw, seeds):
    """Return one of the seeds with up to `MOST_CHANGES` changes anywhere in its JSON."""
    value = copy.deepcopy(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, MOST_CHANGES))):
        places = list(_places(value))
        if not places:
            break
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        _change(draw, holder, key, places)
    return value


def _places(value):
    """Yield each place in a value, as a pair (list, index) or (dict, key)."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield value, key
        yield from _places(each)


def _change(draw, holder, key, places):
    match draw(st.sampled_from(["replace", "delete", "copy", "again", "wrap", "rename"])):
        case "replace":
            holder[key] = copy.deepcopy(draw(st.sampled_from(HOSTILE)))
        case "delete":
            del holder[key]
        case "copy":
            source, at = places[draw(st.integers(0, len(places) - 1))]
            holder[key] = copy.deepcopy(source[at])
        case "again" if isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        case "rename" if isinstance(holder, dict):
            holder[draw(st.sampled_from(["", "type", "content", "text", "x"]))] = holder.pop(key)
        case _:
            holder[key] = draw(st.sampled_from([[holder[key]], {"text": holder[key]}, json.dumps(holder[key])]))


@st.composite
def bytes_changed(draw, seeds):
    """Return one of the `seeds`, which are byte strings, with up to `MOST_CHANGES` changes."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, MOST_CHANGES))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        match draw(st.sampled_from(["cut", "insert", "delete", "turn over", "again"])):
            case "cut":
                data = data[:start]
            case "insert":
                data = data[:start] + draw(st.binary(max_size=12)) + data[start:]
            case "delete":
                data = data[:start] + data[end:]
            case "turn over":
                data = data[:start] + bytes(byte ^ 0x20 for byte in data[start:end]) + data[end:]
            case _:
                data = data[:end] + data[start:end] + data[end:]
    return data
