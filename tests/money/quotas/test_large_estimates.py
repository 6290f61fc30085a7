"""Tests of estimates for large bodies. Images are not read byte by byte, and fields between long texts are found."""

import base64
import json
import random

import msgspec
import pytest

from gateway.contract.billing import common_parts
from gateway.contract.members import Members
from gateway.money.quotas import estimate
from gateway.money.quotas.contents import IMAGE_TOKENS
from tests.helpers.own_plugins import discover_own

CHAT_PARTS = discover_own().flags["openai_chat"].billed_parts


def measure(data, parts=common_parts):
    """Return the size of a body, all bytes of which are searched."""
    top = Members(data)
    top.shortened, top._short = data, None
    return estimate.measure(top, parts)


def measure_searched(data):
    """Return the size of a body, of whose long strings only the ends are searched."""
    return estimate.measure(Members(data), CHAT_PARTS)


def with_image(size, **members):
    """Return a Chat request with an image of `size` bytes of base64."""
    url = "data:image/png;base64," + base64.b64encode(random.Random(1).randbytes(size * 3 // 4)).decode()
    parts = [{"type": "text", "text": "what is this"}, {"type": "image_url", "image_url": {"url": url}}]
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": parts}], **members}).encode()


@pytest.mark.parametrize("words", [0, 100_000, 400_000, 600_000])
def test_words_beside_an_image_count_as_if_all_bytes_were_looked_at(words):
    media = 1_000_000
    data = with_image(media, more="a" * words)
    text = len(data) - media
    lower = min(text, max(0, sum(byte in b"abcdefghijklmnopqrstuvwxyz " for byte in data) - media))
    expected = text - lower + lower * 5 // 8 + IMAGE_TOKENS
    assert abs(measure(data, CHAT_PARTS).most - expected) < 30


@pytest.mark.parametrize("name", ["cache_control", "cachePoint", "service_tier", "serviceTier", "speed", "latency"])
@pytest.mark.parametrize("long", ["x" * 600_000, "\\n" * 250_000, '\\"' * 200, "\u20ac" * 200_000])
def test_a_name_is_found_between_long_texts(name, long):
    members = {"before": long, "a": [{"b": {name: {"type": "x"}}}], "after": long}
    plain, spaced = json.dumps(members), json.dumps(members, separators=(" , ", " : "), ensure_ascii=False)
    for text in (plain, spaced):
        size = measure(text.encode())
        assert (size.caches, size.tiered) == (name.startswith("cache"), not name.startswith("cache"))


@pytest.mark.parametrize("times", [1, 40_000])
def test_a_name_in_a_text_asks_for_nothing(times):
    data = json.dumps({"text": 'set cache_control or "service_tier": {"cachePoint": 1}. ' * times}).encode()
    size = measure(data)
    assert (size.caches, size.tiered) == (False, False)


@pytest.mark.parametrize("image", [0, 200_000])
@pytest.mark.parametrize(
    "settings",
    [
        {"service_tier": "priority"},
        {"serviceTier": {"type": "priority"}},
        {"performanceConfig": {"latency": "optimized"}},
        {"speed": "fast"},
        {"inference_geo": "us"},
        {"modelInput": {"messages": [{"role": "user", "content": "hi"}], "service_tier": "flex"}},
        {"extra_body": {"serv\\u0069ce_tier": "flex"}},
    ],
)
def test_a_tier_is_found_beside_the_conversation_and_not_in_it(settings, image):
    data = with_image(image, before=1, **settings).replace(b"\\\\u", b"\\u")
    assert measure_searched(data).tiered
    inside = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi", **settings}]})
    assert not measure_searched(inside.encode()).tiered


@pytest.mark.parametrize(
    "members", [{}, {"cache_control": {}}, {"service_tier": "flex"}, {"text": "a line\n" * 200_000}]
)
@pytest.mark.parametrize("size", [900_000, 1_100_000, 5_000_000])
def test_the_size_of_a_body_is_the_same_without_a_look_into_its_images(size, members):
    data = with_image(size, **members)
    assert len(Members(data).shortened) < len(data) - size + 4_000
    whole, seen = measure(data, CHAT_PARTS), measure_searched(data)
    assert msgspec.structs.replace(seen, most=whole.most) == whole
    # where much text stands beside media, fewer words are known to be words
    assert whole.most <= seen.most <= len(data) - size + IMAGE_TOKENS


def test_a_long_line_is_estimated_higher_without_a_look_into_it():
    data = json.dumps({"messages": [{"role": "user", "content": "word " * 20_000}]}).encode()
    size, short = measure(data, CHAT_PARTS), measure_searched(data)
    assert size.most < short.most <= len(data)
    assert size.usual == short.usual


def test_long_strings_beyond_ascii_are_measured_where_long_texts_are():
    """Check which long strings `measured_bytes` counts. It leaves out a long string of an ASCII body, and counts a long
    string of a large body with other characters.

    Measuring a body of the second kind takes much longer.
    """
    for letter in ("A", "\u00e9"):
        data = json.dumps({"text": letter * 4_200_000}, ensure_ascii=False).encode()
        assert (estimate.measured_bytes(Members(data)) < 3_000) == (letter == "A")
