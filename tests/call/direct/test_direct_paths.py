"""Tests of the paths of direct requests (`/direct/{provider}/...`).

The provider gets the rest of the path as the client sent it. A path that a server could read in another way is refused.
"""

import pytest

from gateway.call.direct.paths import direct_path
from gateway.contract.errors import Refused


@pytest.mark.parametrize(
    ("raw", "provider", "rest"),
    [
        ("/direct/acme/", "acme", "/"),
        ("/direct/acme/v1/files", "acme", "/v1/files"),
        ("/direct/acme/v1/files/", "acme", "/v1/files/"),
        ("/direct/a%20b/v1", "a b", "/v1"),
        ("/direct/acme/a%2Fb", "acme", "/a%2Fb"),
        ("/direct/acme/...", "acme", "/..."),
        ("/direct/acme/a;v=..", "acme", "/a;v=.."),
    ],
)
def test_the_rest_is_what_the_client_sent(raw, provider, rest):
    path = direct_path(raw)
    assert (path.provider, path.rest) == (provider, rest)


def test_an_encoded_slash_has_two_meanings():
    assert direct_path("/direct/acme/a%2fb%20c").meanings == ("/direct/acme/a/b c", "/direct/acme/a%2Fb c")
    assert len(set(direct_path("/direct/acme/a%20b").meanings)) == 1


@pytest.mark.parametrize(
    "rest", ["..", ".", "%2e%2E", "a//b", "a%2F%2fb", ".. ", "..;x", "%5c", "%25", "%7f", "%c2%80", "%", "\u00e9"]
)
def test_a_path_that_could_mean_another_is_refused(rest):
    with pytest.raises(Refused) as refusal:
        direct_path(f"/direct/acme/{rest.replace(' ', '%20')}/x")
    assert refusal.value.problem.param == "path"
