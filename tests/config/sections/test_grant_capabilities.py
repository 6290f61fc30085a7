"""Tests of capabilities from the tailnet policy. They mean the same as in the configuration file. An invalid one never
makes a call fail.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.model import Capability
from gateway.config.sections.grant_capabilities import policy_capabilities

CAP = "tailscale.com/cap/aperture"
OWN = "irisgate.dev/cap/irisgate"


def test_what_the_policy_gives_is_what_the_file_would_give():
    parsed, messages = policy_capabilities(
        {
            CAP: [{"role": "user", "models": "bedrock/**"}, {"read_metrics": True, "add_headers": ["X-A: b"]}],
            OWN: [{"models": ["a/*", "b/*"]}, {"filterable_headers": ["X-Team"]}],
        }
    )
    assert messages == ()
    assert parsed == (
        Capability("user", ("bedrock/**",)),
        Capability(permissions=frozenset({"read_metrics"}), add_headers=(("X-A", "b"),)),
        Capability(models=("a/*", "b/*")),
        Capability(filterable_headers=("x-team",)),
    )


def test_a_capability_says_where_in_the_policy_it_is():
    parsed, _ = policy_capabilities({CAP: [{}, {"role": "user"}], OWN: [{}]})
    assert [capability.origin for capability in parsed] == [
        f"tailnet policy, {CAP}[0]",
        f"tailnet policy, {CAP}[1]",
        f"tailnet policy, {OWN}[0]",
    ]


def test_other_capabilities_of_the_policy_are_not_ours():
    assert policy_capabilities({"tailscale.com/cap/kubernetes": [{"role": "admin"}, 3]}) == ((), ())


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"role": "root"}, 'role: "root" is not one of user, admin'),
        ({"models": 3}, 'models: must be a pattern such as "bedrock/**", or a list of them'),
        ({"add_headers": ["a: b", "x"]}, 'add_headers[1]: must be in "Header-Name: value" format'),
        (3, "must be an object, not a number"),
        (None, "must be an object, not null"),
    ],
)
def test_a_wrong_policy_item_is_reported_and_the_others_count(item, message):
    """Check that an invalid object in a policy is reported and grants nothing, while the other objects have their
    effect.
    """
    parsed, messages = policy_capabilities({CAP: [{"role": "user"}, item, {"models": "**"}]})
    assert [(capability.role, capability.models) for capability in parsed] == [("user", ()), (None, ("**",))]
    assert messages == (f"tailnet policy, {CAP}[1]: {message}",)


def test_a_key_without_effect_is_told_and_the_rest_of_its_item_counts():
    parsed, messages = policy_capabilities({CAP: [{"role": "user", "model": "**", "connectors": []}]})
    assert parsed == (Capability("user"),)
    assert messages == (
        f'tailnet policy, {CAP}[0]: model: unknown key; it has no effect; did you mean "models"?',
        f"tailnet policy, {CAP}[0]: connectors: not supported yet; it has no effect",
    )


@pytest.mark.parametrize("items", [{"role": "admin"}, "admin", 3, True])
def test_what_is_no_list_gives_nothing(items):
    assert policy_capabilities({CAP: items}) == ((), (f"tailnet policy, {CAP}: must be a list",))


def test_no_message_shows_a_value_that_may_be_a_secret():
    key = "sk-1234-very-secret"
    _, messages = policy_capabilities({CAP: [{"role": key}, {"add_headers": [key]}, {"models": [{key: key}]}]})
    assert len(messages) == 3
    assert key not in "".join(messages)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(["admin", "**"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["role", "models", "quotas"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=100)
@given(JSON | st.fixed_dictionaries({CAP: JSON | st.lists(JSON, max_size=3)}))
def test_no_shape_makes_it_fail(app):
    parsed, messages = policy_capabilities(app)
    assert isinstance(parsed, tuple)
    assert isinstance(messages, tuple)
