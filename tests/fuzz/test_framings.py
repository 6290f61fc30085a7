"""Tests of damaged streams and damaged configurations.

- The decoded frames of a stream must be the same for any division of the stream into chunks.
- The error for a refused configuration must have a position in the text.
"""

import json
from contextlib import suppress
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config.document.hujson import HujsonError, parse
from gateway.contract.errors import BadFrame
from gateway.contract.framing import eventstream, sse
from tests.fuzz.damage import bytes_changed, replies, stream_of
from tests.helpers.examples import examples

DECODERS = {"anthropic_messages": sse.Decoder, "openai_chat": sse.Decoder, "bedrock_converse": eventstream.Decoder}
STREAMS = {flag: [stream_of(flag, events) for events in replies(flag)[1]] for flag in DECODERS}
DOCUMENTS = [
    b'{"providers": {"a": {"baseurl": "http://x", "models": ["m",], /* all */ "cost_map": {}}}, // end\n}',
    b'[1, -0.5e3, true, null, "\\u00e9\\n\xc3\xa9", {"": []}, /**/ {"a": {"a": [[[]]]}},]',
    b"// only\n{}\n/* and */",
]
fuzzed = settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))


def read(decoder, chunks):
    """Feed the chunks to the decoder. Return the frames, and True if the decoder raised `BadFrame`."""
    frames = []
    try:
        for chunk in chunks:
            frames += decoder.feed(chunk)
    except BadFrame:
        return frames, True
    return frames, False


@fuzzed
@given(st.data(), st.sampled_from(sorted(DECODERS)), st.lists(st.integers(0, 3000), max_size=6))
def test_a_damaged_stream_has_the_same_frames_however_it_is_cut(data, flag, cuts):
    damaged = data.draw(bytes_changed(STREAMS[flag]))
    edges = [0, *sorted(min(cut, len(damaged)) for cut in cuts), len(damaged)]
    at_once, fails = read(DECODERS[flag](), [damaged])
    in_pieces, fails_too = read(DECODERS[flag](), [damaged[start:end] for start, end in pairwise(edges)])
    assert fails == fails_too
    assert b"".join(frame.raw for frame in at_once) == b"".join(frame.raw for frame in in_pieces)
    assert damaged.startswith(b"".join(frame.raw for frame in at_once))
    assert [frame.payload for frame in at_once if frame.payload] == [
        frame.payload for frame in in_pieces if frame.payload
    ]


@fuzzed
@given(bytes_changed(DOCUMENTS))
def test_a_damaged_configuration_is_read_as_json_or_refused_at_a_place(damaged):
    text = damaged.decode("utf-8", "replace")
    offset = 0
    try:
        value = parse(text).value
    except HujsonError as error:
        offset = error.offset
    else:
        with suppress(ValueError):
            assert json.loads(text) == value
    assert 0 <= offset <= len(text)
