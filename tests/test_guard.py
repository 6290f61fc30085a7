"""A web page that is open on a caller's machine is not the caller."""

import pytest

from gateway.guard import cross_site

HOSTS = ("ai", "ai.example.ts.net")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "127.0.0.1:8080"},
        {"Host": "[::1]:8080"},
        {"Host": "localhost"},
        {"Host": "LOCALHOST:1"},
        {"Host": "ai"},
        {"Host": "AI.example.ts.net."},
        {"Host": "100.64.0.7"},
        {"Host": "ai:8080", "Origin": "http://ai:8080"},
        {"Host": "ai", "Origin": "http://ai", "Sec-Fetch-Site": "same-origin"},
        {"Host": "ai.example.ts.net", "Origin": "https://ai.example.ts.net"},
        {"Host": "ai", "Sec-Fetch-Site": "none"},
    ],
)
def test_the_gateways_own_names_and_pages_pass(headers):
    assert cross_site(headers, HOSTS) is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": ""},
        {"Host": "evil.example"},
        {"Host": "ai.evil.example"},
        {"Host": "user@ai"},
        {"Host": "ai/path"},
        {"Host": "ai:99999"},
        {"Host": "ai evil"},
        {"Host": "ai", "Origin": "http://evil.example"},
        {"Host": "ai", "Origin": "null"},
        {"Host": "ai", "Origin": "http://ai:81"},
        {"Host": "ai", "Origin": "file://ai"},
        {"Host": "ai", "Origin": "http://ai.evil.example"},
        {"Host": "ai", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_foreign_names_and_pages_are_refused(headers):
    refused = cross_site(headers, HOSTS)
    assert refused is not None
    assert refused.problem.message.startswith("access denied: ")
