"""Tests of texts in the configuration in which templates such as `<user>` are replaced by the caller's names.

A template inside of a caller's name is not replaced.
"""

import pytest

from gateway.money.quotas.definitions import bucket_of
from gateway.upstream.subjects import Subject, filled


@pytest.mark.parametrize(
    ("login", "node", "expected"),
    [
        ("ada", "n1", "ada on n1"),
        ("ada", "", "ada on ada"),
        ("<node>", "n1", "<node> on n1"),
        ("<user>", "<user>", "<user> on <user>"),
        ("<no", "<user>", "<no on <user>"),
    ],
)
def test_a_template_in_a_login_or_a_node_is_not_filled_in(login, node, expected):
    assert filled("<user> on <node>", Subject(login, node)) == expected
    assert bucket_of("daily:<user>", login, node) == f"daily:{login}"
