"""Tests of the headers that pass between a client and a provider below `/direct`."""

import pytest

from gateway.call.direct.headers import for_client, for_provider

NETWORK = [
    "tailscale-user-login", "tailscale-user-name", "tailscale-app-capabilities", "x-forwarded-for", "x-forwarded-host",
    "x-forwarded-proto", "forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip",
    "x-envoy-peer-metadata", "origin", "referer", "sec-fetch-site",
]  # fmt: skip


@pytest.mark.parametrize("name", NETWORK)
def test_nothing_tells_of_the_clients_network(name):
    assert for_provider({name: "x", "x-kept": "y"}) == {"x-kept": "y"}


@pytest.mark.parametrize(
    "name", ["tailscale_user_login", "x_forwarded_for", "x_api_key", "x.api.key", "content_length"]
)
def test_names_that_servers_read_differently_are_left_out(name):
    assert for_provider({name: "x"}) == {}


def test_headers_that_the_connection_names_are_left_out_in_both_directions():
    headers = {"connection": "close, X-One , x-two", "x-one": "1", "x-two": "2", "x-three": "3"}
    assert for_provider(headers) == {"x-three": "3"}
    assert {"x-one", "x-two", "connection"}.isdisjoint(for_client(headers))


def test_a_key_that_names_a_request_is_no_credential():
    assert for_provider({"idempotency-key": "k", "x-session-key": "s"}) == {"idempotency-key": "k"}


def test_a_reply_without_a_type_is_bytes():
    assert for_client({})["content-type"] == "application/octet-stream"
    assert for_client({"content-type": "audio/mpeg"})["content-type"] == "audio/mpeg"


def test_a_value_that_cannot_be_printed_is_left_out():
    assert "x-odd" not in for_client({"x-odd": "a\x01"})
