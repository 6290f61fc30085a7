"""Tests of response headers that contain text chosen by clients."""

import pytest

from gateway.call.response_headers import MAX_HEADER, _header_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("/seed, /stop", "/seed, /stop"),
        ("a" * MAX_HEADER, "a" * MAX_HEADER),
        ("a" * (MAX_HEADER + 1), "a" * MAX_HEADER + "..."),
        ("\n" * MAX_HEADER, ("%0A" * MAX_HEADER)[:MAX_HEADER] + "..."),
    ],
)
def test_a_value_that_is_cut_says_so(text, value):
    assert _header_value(text) == value
