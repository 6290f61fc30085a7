"""Tests of `LazyBody`, and of the search for files in JSON text that is not decoded."""

import json
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.billing import COMMON, File, FileForms, length
from gateway.contract.lazy_body import LazyBody
from gateway.contract.members import Members
from tests.helpers.own_plugins import discover_own

FLAGS = discover_own().flags
URL = {"url": "data:image/png;base64,iVBORw0K"}
LEAVES = st.sampled_from(
    [None, 5, True, "text", "image", 'say "type": "image"', "caf\u00e9", "A" * 70_000, URL, [], {}, "s3://b/cat.png",
     {"bytes": "iVBORw0K"}, {"s3Location": {}}, {"type": "base64", "data": "iVBORw0K", "media_type": "image/png"},
     {"mimeType": "image/png", "data": "iVBORw0K"}, {"data": "UklGRg==", "format": "wav"},
     {"image": {"source": {"bytes": "iVBORw0K"}}}, {"toolResult": {"content": [{"video": {"source": {"bytes": "AAAA"}}}]}},
     {"inlineData": {"mimeType": "image/png", "data": "iVBORw0K"}}, {"type": "image_url", "image_url": URL},
     {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}}]
)  # fmt: skip
KEYS = st.sampled_from(
    ["type", "role", "content", "text", "source", "image_url", "image", "document", "video", "file", "input_audio", "parts",
     "inlineData", "file_data", "functionResponse", "toolResult", "guardContent", "output", "result", "input_image"]
)  # fmt: skip
TYPES = st.sampled_from(
    ["text", "image", "document", "image_url", "file", "input_audio", "input_image", "input_file", "image_generation_call", 7]
)  # fmt: skip
BLOCKS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.builds(lambda kind, block: {"type": kind, **block}, TYPES, st.dictionaries(KEYS, inner, max_size=3))
    ),
    max_leaves=12,
)
BODIES = st.dictionaries(
    st.sampled_from(
        [
            "messages",
            "system",
            "contents",
            "input",
            "systemInstruction",
            "tools",
            "toolConfig",
            "n",
            "inputImage",
            "prompt",
        ]
    ),
    BLOCKS,
    max_size=4,
)


FIRST_LETTER = re.compile(r'(?<!\\)"([a-zA-Z0-9])')
"""Pattern for the first letter of a string in JSON text, also of an inner quotation."""


def escaped(text, number):
    """Return JSON text with an escape in place of the letter with this number among the first letters of all strings."""
    places = [match.start(1) for match in FIRST_LETTER.finditer(text)]
    at = places[number % len(places)] if places else None
    return text if at is None else f"{text[:at]}\\u{ord(text[at]):04x}{text[at + 1 :]}"


@pytest.mark.parametrize("flag", FLAGS)
@given(
    BODIES, st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")]), st.booleans(), st.none() | st.integers(0, 99)
)
def test_the_parts_of_a_body_are_the_same_without_decoding_all_of_it(flag, body, separators, is_ascii, place):
    text = json.dumps(body, separators=separators, ensure_ascii=is_ascii)
    text = text if place is None else escaped(text, place)
    parts = FLAGS[flag].billed_parts
    assert Counter(parts(LazyBody(Members(text.encode())))) == Counter(parts(json.loads(text)))


def test_text_is_not_decoded(monkeypatch):
    """Check that a chat without files is not decoded, and that a chat with a file is."""
    decoded = []
    monkeypatch.setattr("gateway.contract.lazy_body._decoded", lambda text: decoded.append(text) or json.loads(text))
    said = b'{"messages": [{"role": "user", "content": "an \\"image_url\\" of \\"type\\": \\"image\\""}], "n": 2}'
    assert (list(COMMON.files(LazyBody(Members(said)))), decoded) == ([], [])
    shown = json.dumps({"messages": [{"content": [{"type": "image_url", "image_url": URL}]}], "n": 2}).encode()
    assert len(list(COMMON.files(LazyBody(Members(shown))))) == len(decoded) == 1


@pytest.mark.parametrize("key", ["bild-\u00e4", "a/b", "a b", 'a"b'])
def test_a_key_that_json_may_escape_is_found(key):
    forms = FileForms(turns=("messages",), members={key: lambda picture: [File("image", length(picture))]})
    for text in (
        json.dumps({"messages": [{key: "iVBORw0K"}]}),
        json.dumps({"messages": [{key: "iVBORw0K"}]}).replace("/", "\\/"),
    ):
        assert list(forms.files(LazyBody(Members(text.encode())))) == [File("image", 8)]
    types = replace(forms, types={key: lambda _block: [File("audio", 3)]}, members={})
    text = json.dumps({"messages": [{"type": key}]}).replace("/", "\\/")
    assert list(types.files(LazyBody(Members(text.encode())))) == [File("audio", 3)]


def test_a_value_that_cannot_be_decoded_is_none():
    body = LazyBody(Members(b'{"bad": "\xff", "n": 1, "half": "\\ud83d"}'))
    assert (body["bad"], body["n"], body["half"]) == (None, 1, "\ufffd")
    assert ([*body], len(body), "n" in body, body.get("top_p", 5)) == (["bad", "n", "half"], 3, True, 5)
    with pytest.raises(KeyError):
        body["top_p"]


def test_a_large_value_keeps_the_digits_of_its_integers():
    text = b'{"messages": [%d, "%b"]}' % (2**64 + 1, b"a" * 1_100_000)
    assert LazyBody(Members(text))["messages"][0] == 2**64 + 1
