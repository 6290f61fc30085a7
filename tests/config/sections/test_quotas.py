"""Tests of quotas and rate limits in a configuration: the settings that are read, and each error message with its
position.
"""

import pytest

from gateway.config.load import loads
from gateway.config.sections.grant_capabilities import policy_capabilities
from gateway.config.sections.quotas import nanodollars
from gateway.money.quotas.definitions import Quota, RateLimit
from gateway.money.quotas.windows import Window
from tests.config.examples import config
from tests.config.test_messages import AT, assert_said, capability, said
from tests.helpers.gateway import CAP

WRONG = [
    ('"quotas": {"a": {»"capacity": "1"}}', 'quotas.a.capacity: must be a sum of dollars, such as "$10.00"'),
    (
        '"quotas": {"a": {"capacity": "$1", »"rate": "$1/year"}}',
        'quotas.a.rate: must be dollars per min, hour, day, week or month, such as "$5.00/day"',
    ),
    (
        '"quotas": {"a": {"capacity": "$1", »"on_exceed": "warn"}}',
        'quotas.a.on_exceed: "warn" is not one of reject, notify',
    ),
    ('"quotas": {»"a": {}}', 'quotas.a.capacity: is missing; for example "capacity": "$10.00"'),
    (
        '"quotas": {»"a:<team>": {"capacity": "$1"}}',
        (
            'warning: quotas."a:<team>": unsupported quota template; a name may end with one of <user> or <node> '
            'after a ":"'
        ),
    ),
    (
        '"quotas": {"a:<user>": {"capacity": "$1"}, »"a:<node>": {"capacity": "$1"}}',
        ('warning: quotas."a:<node>": shares its buckets\' names with "a:<user>"; give them different names'),
    ),
    (
        '"quotas": {»"a:bob@example.com": {"capacity": "$1"}, "a:<user>": {"capacity": "$1"}}',
        ('warning: quotas."a:bob@example.com": shares its buckets\' names with "a:<user>"; give them different names'),
    ),
    (
        '"quotas": {"a": {"capacity": "$1", »"reset": "year"}}',
        'quotas.a.reset: "year" is not one of hour, day, week, month',
    ),
    (
        '"quotas": {"a": {"capacity": "$1", »"reset": "month", "rate": "$1/day"}}',
        'quotas.a.reset: is in the place of "rate"; keep one of them',
    ),
    (
        '"quotas": {"a": {"capacity": "$1", "reset": "day", »"time_zone": "Mars/Olympus"}}',
        (
            "quotas.a.time_zone: is no time zone that this machine knows; write one such as "
            '"Europe/Berlin". If the machine has no time zones, install the package tzdata'
        ),
    ),
    (
        '"quotas": {"a": {"capacity": "$1", "rate": "$1/day", »"time_zone": "Europe/Berlin"}}',
        'warning: quotas.a.time_zone: has no effect without "reset"',
    ),
    (
        capability('"quotas": [{"bucket": "q", "overdraft": [»"gone"]}]'),
        f'warning: {AT}.quotas[0].overdraft[0]: quotas references undefined quota "gone"',
    ),
    (
        capability('"quotas": [{"bucket": "q", "overdraft": [»"q"]}]'),
        f'warning: {AT}.quotas[0].overdraft[0]: names the quota "q" a second time; each quota pays once',
    ),
    (
        capability('"quotas": [{"bucket": "q", »"overdraft": "team"}]'),
        f"{AT}.quotas[0].overdraft: must be a list",
    ),
    (
        capability('"rate_limits": [{»"requests": "60/s"}]'),
        f'{AT}.rate_limits[0].requests: must be a number per min, hour, day, week or month, such as "60/min"',
    ),
    (
        capability('"rate_limits": [{»"requests": "0/min"}]'),
        f'{AT}.rate_limits[0].requests: must be a number per min, hour, day, week or month, such as "60/min"',
    ),
    (
        capability('"rate_limits": [»{}]'),
        f'{AT}.rate_limits[0]: needs either "requests" or "tokens", such as {{"requests": "60/min"}}',
    ),
    (
        capability('"rate_limits": [»{"requests": "1/min", "tokens": "1/min"}]'),
        f'{AT}.rate_limits[0]: needs either "requests" or "tokens", such as {{"requests": "60/min"}}',
    ),
    (
        capability('"rate_limits": [{"tokens": "1/min", »"per": "node"}]'),
        f'{AT}.rate_limits[0].per: "node" is not one of user, user_model',
    ),
    (
        capability('"rate_limits": [{"tokens": "1/min", »"burst": 1}]'),
        f"warning: {AT}.rate_limits[0].burst: unknown key; it has no effect",
    ),
]


@pytest.mark.parametrize(("section", "expected"), WRONG)
def test_what_is_wrong_with_a_quota_or_a_limit_is_said_at_its_place(section, expected):
    assert_said(section, expected)


def faults(text):
    """Return the findings about quotas. The finding that no grant names a quota is left out."""
    return [line for line in said(text) if "no grant names the quota" not in line]


def test_a_quota_beside_a_template_that_is_nobodys_login_is_not_spoken_of():
    assert faults('"quotas": {"a:<user>": {"capacity": "$1"}, "a:all": {"capacity": "$1"}}') == []


def test_a_quota_that_is_sound_is_not_spoken_of():
    assert faults('"quotas": {"a:<user>": {"capacity": "$1", "rate": "$0.50/day", "on_exceed": "notify"}}') == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$0.00", 0),
        ("$10.00", 10_000_000_000),
        ("$0.000000001", 1),
        ("$1.5", 1_500_000_000),
        ("$999999999.999999999", 999_999_999_999_999_999),
    ],
)
def test_a_sum_of_dollars_is_exact_to_the_nanodollar(text, expected):
    assert nanodollars(text) == expected


@pytest.mark.parametrize("text", ["1", "$", "$-1", "$1.", "$1.0000000001", "$1e3", "1$", "", "$１", None, 5])
def test_what_is_no_sum_of_dollars_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r'must be a sum of dollars, such as "\$10.00"'):
        nanodollars(text)


@pytest.mark.parametrize(
    ("unit", "seconds"),
    [("min", 60), ("hour", 3600), ("day", 86_400), ("week", 604_800), ("month", 30 * 86_400)],
)
def test_a_rate_is_an_amount_in_a_period(unit, seconds):
    text = config(quotas={"q": {"capacity": "$10.00", "rate": f"$5.00/{unit}"}})
    assert loads(text).config.quotas["q"] == Quota("q", 10**10, 5 * 10**9, seconds, f"$5.00/{unit}")


@pytest.mark.parametrize("unit", ["hour", "day", "week", "month"])
def test_a_reset_is_a_window_of_the_calendar(unit):
    text = config(quotas={"q": {"capacity": "$10.00", "reset": unit, "time_zone": "Europe/Berlin"}})
    assert loads(text).config.quotas["q"].window == Window(unit, "Europe/Berlin")
    assert loads(config(quotas={"q": {"capacity": "$1", "reset": unit}})).config.quotas["q"].window == Window(unit)


def test_a_quota_without_a_rate_never_refills():
    assert loads(config(quotas={"q": {"capacity": "$0.00"}})).config.quotas["q"].amount == 0


def test_a_quota_of_an_unknown_template_is_left_out():
    """Check that a quota is left out if its name has an unknown template, such as `<team>`. Calls that need this quota
    are then refused.
    """
    assert loads(config(quotas={"a:<team>": {"capacity": "$1"}})).config.quotas == {}


def given(item):
    text = config(grants=[{"src": ["*"], "app": {CAP: [item]}}], quotas={"q": {"capacity": "$1"}})
    ((capability,),) = [grant.capabilities for grant in loads(text).config.grants]
    return capability


def test_an_overdraft_follows_its_quota():
    overdraft = [{"bucket": "q", "overdraft": ["team", "all"]}, {"bucket": "q"}, {"bucket": "all"}]
    assert given({"quotas": overdraft}).quotas == (("q", "team", "all"), ("all",))


def test_a_capability_has_its_quotas_each_once():
    assert given({"quotas": [{"bucket": "q"}, {"bucket": "q"}]}).quotas == (("q",),)


@pytest.mark.parametrize(
    ("models", "per", "by_model"),
    [([], None, False), (["p/*"], None, True), ([], "user_model", True), (["p/*"], "user", False)],
)
def test_a_limit_is_per_model_where_models_are_named(models, per, by_model):
    """Check that a rate limit applies to each model separately if its key `per` says so.

    If the limit has no such key, it applies to each model separately if the grant names models.
    """
    limit = {"tokens": "200000/min"} | ({"per": per} if per else {})
    limits = given({"models": models, "rate_limits": [limit]}).rate_limits
    assert limits == (RateLimit("tokens", 200_000, 60, "200000/min", by_model),)


def test_the_tailnet_policy_may_set_quotas_and_limits_too():
    item = {"models": "**", "quotas": [{"bucket": "q"}], "rate_limits": [{"requests": "60/min"}]}
    (capability,), messages = policy_capabilities({CAP: [item]})
    assert (capability.quotas, [limit.rate for limit in capability.rate_limits], messages) == (
        (("q",),),
        ["60/min"],
        (),
    )


@pytest.mark.parametrize(
    ("key", "item", "message"),
    [
        ("quotas", {}, 'quotas[0].bucket: is missing; for example "bucket": "daily:<user>"'),
        ("quotas", "q", "quotas[0]: must be an object, not a string"),
        (
            "rate_limits",
            {"requests": "many"},
            'rate_limits[0].requests: must be a number per min, hour, day, week or month, such as "60/min"',
        ),
    ],
)
def test_a_faulty_limit_in_the_policy_grants_nothing(key, item, message):
    """Check that an object of the tailnet policy grants nothing if one of its limits is invalid. It must not grant
    unlimited use.
    """
    capabilities, messages = policy_capabilities({CAP: [{"role": "user"}, {"models": "**", key: [item]}]})
    assert [capability.role for capability in capabilities] == ["user"]
    assert messages == (f"tailnet policy, {CAP}[1]: {message}",)
