"""Tests of the recorded values of request headers. The values of a repeated header become a list. A value is made
printable, shortened, and freed of secrets.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.access.grants import Grants
from gateway.access.identity.caller import Identity
from gateway.call.recorded_headers import of_request, with_reply
from gateway.config.model import Capability, Config, Grant
from gateway.contract.http_headers import MAX_HEADER_VALUE, header_value

NAMES = ("x-team", "x-project")


class Ready:
    """A stand-in for `Runtime`, which has only the names of the headers to record, and the grants. Ada has a role, and
    Bob has none. Headers are recorded for callers with a role.
    """

    def __init__(self, names=NAMES):
        self.config = Config(filterable_headers=names)
        self.grants = Grants([Grant(("ada",), (Capability("user"),))], [])


def recorded(*pairs, login="ada", names=NAMES):
    headers = CIMultiDictProxy(CIMultiDict(pairs))
    return dict(of_request(headers, Ready(names), Identity(login) if login is not None else None))


def value(text):
    return recorded(("x-team", text))["x-team"]


def test_only_the_named_headers_are_recorded_by_name_in_lower_case():
    assert recorded(("X-Team", "alpha"), ("x-other", "beta")) == {"x-team": "alpha"}
    assert recorded(("X-Team", "alpha"), names=()) == {}


def test_a_repeated_header_is_one_list_and_an_empty_one_is_empty():
    assert recorded(("x-team", "alpha"), ("X-TEAM", "beta")) == {"x-team": "alpha, beta"}
    assert recorded(("x-team", ""), ("x-project", " ")) == {"x-team": "", "x-project": ""}


def test_callers_without_a_role_add_no_values():
    assert recorded(("x-team", "alpha"), login="bob") == {}
    assert recorded(("x-team", "alpha"), login=None) == {}


def test_the_reply_adds_headers_that_the_request_did_not_have():
    reply = {"x-team": "of the reply", "x-project": "p1", "set-cookie": "a=b"}
    assert with_reply({"x-team": "alpha"}, NAMES, reply) == {"x-team": "alpha", "x-project": "p1"}
    assert with_reply({}, (), reply) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  alpha \t beta ", "alpha beta"),
        ("caf\udce9", "caf\ufffd"),
        ("a\x00b\x7fc\x1b[31m", "a\ufffdb\ufffdc\ufffd[31m"),
        ("\u202etxt.exe\u2066", "\ufffdtxt.exe\ufffd"),
        ("שלום", "שלום"),
        ("<b onload=x>", "<b onload=x>"),
        ("e" * 10_000, "e" * (MAX_HEADER_VALUE - 1) + "…"),
        (f"{' ' * 3000}a", "…"),
        ("a" * MAX_HEADER_VALUE, "a" * MAX_HEADER_VALUE),
        ("Bearer sk-ant-api03-abcdef", "[redacted]"),
        ("https://me:pass@host/?api_key=sk-1", "https://[redacted]@host/?api_key=[redacted]"),
        (f"{'x' * 240} Bearer sk-ant-api03-abcdef", f"{'x' * 240} [redacted]"),
    ],
)
def test_a_value_is_cleaned_cut_and_has_no_secrets(text, expected):
    assert value(text) == expected


@given(st.text(max_size=1500))
def test_a_recorded_value_is_short_printable_and_stays_as_it_is(text):
    once = value(text)
    assert len(once) <= MAX_HEADER_VALUE
    assert once.isprintable()
    assert header_value(once) == once
