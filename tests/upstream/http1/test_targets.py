"""Tests of the URL of a request, which is made from a provider's base URL and a path."""

import pytest

from gateway.upstream.http1.targets import base

VERTEX = "/v1/projects/p/locations/global"


@pytest.mark.parametrize(
    ("below", "path", "target"),
    [
        ("", "/v1/chat/completions", "/v1/chat/completions"),
        ("/", "/v1/chat/completions", "/v1/chat/completions"),
        ("/v1", "/v1/chat/completions", "/v1/chat/completions"),
        ("/api/paas/v4/", "/v1/chat/completions", "/api/paas/v4/chat/completions"),
        ("/anthropic", "/v1/messages", "/anthropic/v1/messages"),
        ("/v1/account/gateway/anthropic", "/v1/messages", "/v1/account/gateway/anthropic/v1/messages"),
        (f"{VERTEX}/endpoints/openapi", "/v1/chat/completions", f"{VERTEX}/endpoints/openapi/chat/completions"),
        (f"{VERTEX}/publishers/google", "/v1beta/models/m:generateContent",
         f"{VERTEX}/publishers/google/models/m:generateContent"),
        ("/v1/publishers/google", "/v1beta/models/m:generateContent", "/v1/publishers/google/models/m:generateContent"),
        ("/v1/projects", "/v1/messages", "/v1/projects/v1/messages"),
    ],
)  # fmt: skip
def test_a_version_stands_once_in_the_address(below, path, target):
    assert base(f"https://models.test{below}").target(path, "") == target
    assert base(f"https://models.test{below}").target(path, "alt=sse") == f"{target}?alt=sse"
