"""Tests of explanations of why a caller may or may not use a model.

An explanation must agree with the decision about a real call.
"""

import asyncio
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.identity.caller import LOOPBACK, Identity, tagged, user
from gateway.call.chain import Call, Inbound, chain
from gateway.call.explain.explain import ASK_ADMIN, NoSuchCaller, explain, own_view, somebody
from gateway.call.explain.text import explanation_text
from gateway.call.middleware.plan import planned
from gateway.call.responses import Whole
from gateway.call.runtime import runtime
from gateway.config.load import loads
from gateway.config.model import Alias, Capability, Config, Grant, Provider
from gateway.contract.errors import NOT_FOUND, PERMISSION, Refused
from gateway.contract.flag import ClientRequest
from gateway.contract.members import Members
from tests.helpers.cpu_time import cpu_units
from tests.helpers.gateway import CAP, SONNET, bedrock
from tests.helpers.own_plugins import discover_own

REGISTRY = discover_own()
PLUGIN = REGISTRY.flags["openai_chat"]
ALICE = user("alice@example.com", groups=("eng",))
BOTH = tagged(("tag:prod", "tag:api"))


def grant(*src, **capability):
    return {"src": list(src), "app": {CAP: [capability]}}


def ready(*grants, **more):
    providers = {
        "bedrock": {"baseurl": "https://a.example", "models": ["claude-haiku", "claude-sonnet", "arn:x/y"]},
        "old": {"baseurl": "https://b.example", "models": ["claude-haiku", "retired"], "disabled": True},
    }
    text = json.dumps({"providers": providers, "grants": list(grants), **more})
    return runtime(loads(text, plugins=REGISTRY.known).config)


def misses(words):
    return [(miss.kind, miss.written) for miss in words.near_misses]


async def done(_call):
    return Whole(200, {}, b"")


CHAIN = chain(planned, last=done)


def decided(ready, identity, model, note=lambda _call: ""):
    """Decide whether a call is allowed, as the gateway does for a real call. Return the error code of a refused call,
    or `note(call)` for an allowed one.
    """
    ask = ClientRequest(
        "openai_chat", "openai_chat", "generate", "POST", "/", "", {}, Members(b"{}"), model, stream=False
    )
    call = Call(Inbound("req", ready, PLUGIN, "generate", "agent", identity), identity, ask)
    try:
        asyncio.run(CHAIN(call))
    except Refused as error:
        return error.problem.code
    return note(call)


PLACES = [(provider, model) for provider in ("p", "q") for model in ("m", "M", "a/m", "p/m")]
PATTERNS = st.sampled_from(["**", "*/*", "p/*", "p/**", "q/m", "q/*m", "**/m", "p/a/*", "P/M", "m", "p/**/m"])
TAGS = ("tag:a", "tag:b")
SOURCES = st.sampled_from(["*", "al", "AL", "group:eng", "eng", "tag:a", "tag:b", "tag:a,tag:b", "(loopback)", "bo"])
CAPABILITIES = st.builds(
    Capability,
    role=st.sampled_from([None, None, "user", "admin"]),
    models=st.lists(PATTERNS, max_size=2).map(tuple),
    add_headers=st.sampled_from([(), (("x-team", "s3cret"),)]),
    origin=st.just("grants[0] (c:1:2)"),
)
IDENTITIES = st.one_of(
    st.just(LOOPBACK),
    st.builds(user, st.sampled_from(["al", "bo"]), groups=st.sampled_from([(), ("eng",)])),
    st.builds(tagged, st.sets(st.sampled_from(TAGS), min_size=1).map(tuple), capabilities=st.lists(CAPABILITIES, max_size=1)),
)  # fmt: skip
GRANTS = st.lists(
    st.builds(Grant, st.lists(SOURCES, max_size=2).map(tuple), st.lists(CAPABILITIES, max_size=2).map(tuple)),
    max_size=3,
).map(tuple)
ALIASES = st.dictionaries(
    st.sampled_from(["m", "fast"]),
    st.builds(Alias, st.lists(st.sampled_from(PLACES), max_size=2).map(tuple)),
    max_size=1,
)
CONFIGS = st.builds(
    lambda grants, aliases, here, disabled: Config(
        providers={
            name: Provider(name, "https://x", tuple(m for n, m in here if n == name), disabled=name in disabled)
            for name in ("p", "q")
        },
        grants=grants,
        aliases=aliases,
    ),
    GRANTS, ALIASES, st.sets(st.sampled_from(PLACES)), st.sets(st.sampled_from(["p", "q"]), max_size=1),
)  # fmt: skip
NAMES = st.sampled_from(["m", "M", "a/m", "p/m", "q/m", "p/p/m", "fast", "no", ""])


@given(CONFIGS, IDENTITIES, NAMES)
def test_the_verdict_is_the_chains(config, identity, model):
    made = runtime(config)
    code = decided(made, identity, model)
    explanation = explain(made, identity, model)
    assert explanation.allowed == own_view(made, identity, model).allowed == (code == "")
    assert explanation.allowed == (explanation.reason == "granted")
    assert (explanation.reason == "no_role") == (code == PERMISSION)
    assert (explanation.reason in {"not_granted", "disabled", "unknown"}) == (code == NOT_FOUND)
    assert all(offer.by for offer in explanation.offers if offer.state == "allowed")
    assert "s3cret" not in repr(explanation)


@given(CONFIGS, IDENTITIES, NAMES)
def test_a_grant_that_is_suggested_lets_the_call_through(config, identity, model):
    explanation = explain(runtime(config), identity, model)
    if not explanation.grant:
        assert explanation.allowed or not any(offer.state in {"no_role", "not_granted"} for offer in explanation.offers)
        return
    written = json.loads(explanation.grant)
    given = tuple(
        Capability(item.get("role"), tuple(filter(None, [item.get("models")]))) for item in written["app"][CAP]
    )
    more = Config(config.providers, (*config.grants, Grant(tuple(written["src"]), given)), config.aliases)
    assert decided(runtime(more), identity, model) == ""


@given(CONFIGS, IDENTITIES, NAMES)
def test_an_explanation_reveals_nothing_that_is_not_granted(config, identity, model):
    """Check that an explanation stays the same if the models, providers and grants are removed to which the caller has
    no access.
    """
    made = runtime(config)
    seen = {offer.name for offer in made.catalog.visible(made.grants.access(identity))}
    mine = made.grants.access(identity).capabilities
    less = Config(
        providers={
            name: Provider(name, "https://x", tuple(model for model in provider.models if f"{name}/{model}" in seen))
            for name, provider in config.providers.items()
        },
        grants=(Grant(("*",), mine[: len(mine) - len(identity.capabilities)]),),
        aliases=config.aliases,
    )
    assert own_view(runtime(less), identity, model) == own_view(made, identity, model)


def test_an_unknown_and_a_denied_model_look_alike_to_a_caller():
    made = ready(grant("*", role="user", models="bedrock/claude-haiku"), grant("bob@example.com", models="**"))
    denied, unknown = (explanation_text(own_view(made, ALICE, name)) for name in ("arn:x/y", "gpt-x/y"))
    assert denied.replace("arn:x/y", "NAME") == unknown.replace("gpt-x/y", "NAME")
    assert "bob" not in denied
    assert denied.endswith(ASK_ADMIN)


@given(CONFIGS, IDENTITIES, NAMES)
def test_what_a_caller_is_told_is_made_without_a_look_at_the_configuration(config, identity, model):
    """Check that the explanation for a caller stays the same if the configuration is replaced by an empty one.

    Neither the explanation nor the time to make it may depend on other callers' grants.
    """
    made = runtime(config)
    assert own_view(replace(made, config=Config()), identity, model) == own_view(made, identity, model)


@pytest.mark.parametrize("identity", [ALICE, user("bob@example.com")])
@pytest.mark.parametrize("model", ["m1", "nothing", "all"])
def test_ten_thousand_grants_are_explained_in_a_moment(identity, model):
    """Check that explaining one caller's access among ten thousand grants takes less CPU time than parsing a megabyte
    of JSON.
    """
    others = [grant(f"u{number}@example.com", role="user", models=f"p/m{number}") for number in range(10_000)]
    made = many(grant(ALICE.login, role="user"), *others)
    made.grants.access(identity)
    assert cpu_units(lambda: own_view(made, identity, model)) < 0.7


def many(*grants):
    """Return the runtime of a configuration with these grants.

    The configuration is built directly, because parsing it from text would take seconds.
    """
    given = tuple(
        Grant(tuple(each["src"]), (Capability(item.get("role"), tuple(filter(None, [item.get("models")]))),))
        for each in grants
        for item in each["app"][CAP]
    )
    aliases = {"all": Alias((("p", "m1"), ("p", "m2")))}
    return runtime(Config({"p": Provider("p", "https://x", ("m1", "m2"))}, given, aliases))


@pytest.mark.parametrize("model", ["claude-haiku", "fast", "nothing", "**", "bedrock/*", "claude\u202e"])
@pytest.mark.parametrize("own", [[], [grant("*", role="user")]])
def test_a_caller_is_handed_no_grant_whatever_a_name_means(own, model):
    aliases = {"models": {"fast": {"dst": ["bedrock/claude-haiku"]}}}
    explanation = own_view(ready(*own, grant("bo", role="admin"), model_aliases=aliases), ALICE, model)
    assert (explanation.grant, explanation.policy, explanation.note) == ("", "", ASK_ADMIN)


@pytest.mark.parametrize(
    ("patterns", "served"),
    [
        (("reseller/**",), ["reseller"]),
        (("anthropic/**",), ["anthropic"]),
        (("anthropic/**", "reseller/**"), ["reseller"]),
        ((), NOT_FOUND),
    ],
)
def test_of_a_name_that_is_two_models_the_one_is_meant_that_is_granted(patterns, served):
    providers = {
        "reseller": Provider("reseller", "https://x", ("anthropic/claude",)),
        "anthropic": Provider("anthropic", "https://x", ("claude",)),
    }
    given = (Capability("user"), Capability(models=patterns))
    made = runtime(Config(providers, (Grant(("*",), given),)))
    assert decided(made, ALICE, "anthropic/claude", lambda call: [offer.provider_id for offer in call.offers]) == served


def test_an_alias_without_a_grant_looks_like_an_unknown_name():
    """Check that an alias with no granted target gets the same answer as an unknown name."""
    aliases = {"models": {"fast": {"dst": ["bedrock/claude-haiku"], "strategy": "session"}}}
    made = ready(grant("*", role="user", models="bedrock/claude-sonnet"), model_aliases=aliases)
    assert own_view(made, ALICE, "fast") == replace(own_view(made, ALICE, "last"), model="fast")
    assert explain(made, ALICE, "fast").alias == "session"


def test_a_caller_does_not_learn_where_the_configuration_lies():
    explanation = own_view(ready(grant("*", role="user", models="**")), ALICE, "claude-haiku")
    assert explanation.role_by == ('grants[0].app."tailscale.com/cap/aperture"[0]',)
    assert "config.hujson" not in explanation_text(explanation)


def test_what_lets_a_call_through_is_named_with_its_place():
    made = ready(grant("group:eng", role="user"), grant("*", models="bedrock/**", add_headers=["X-Team: s3cret"]))
    explanation = explain(made, ALICE, "claude-haiku")
    assert (explanation.allowed, explanation.role) == (True, "user")
    assert explanation.role_by[0].startswith("grants[0]")
    here, old = explanation.offers
    assert (here.provider, here.state, here.by[0].models, here.headers) == (
        "bedrock",
        "allowed",
        "bedrock/**",
        ("X-Team",),
    )
    assert here.by[0].origin.startswith("grants[1]")
    assert (old.provider, old.state) == ("old", "disabled")
    assert explanation.grant == explanation.policy == ""


def test_the_quotas_that_pay_are_named_in_their_order():
    chain = {"bucket": "daily:<user>", "overdraft": ["team"]}
    quotas = {name: {"capacity": "$1"} for name in ("daily:<user>", "team", "all")}
    made = ready(grant("*", role="user", models="**", quotas=[chain, {"bucket": "all"}]), quotas=quotas)
    for explanation in (explain(made, ALICE, "claude-haiku"), own_view(made, ALICE, "claude-haiku")):
        assert explanation.offers[0].quotas == (("daily:<user>", "team"), ("all",))
        lines = explanation_text(explanation).splitlines()
        assert '    charged to "daily:<user>", then "team"' in lines
        assert '    charged to "all"' in lines


def test_only_what_is_missing_is_suggested():
    made = ready(grant("group:eng", models="bedrock/claude-haiku"))
    assert json.loads(explain(made, ALICE, "claude-haiku").grant)["app"][CAP] == [{"role": "user"}]
    both = [{"role": "user"}, {"models": "bedrock/claude-sonnet"}]
    assert json.loads(explain(made, ALICE, "claude-sonnet").grant)["app"][CAP] == both


def test_no_grant_is_suggested_for_what_no_grant_could_open():
    made = ready(grant("*", role="user"))
    assert (explain(made, ALICE, "retired").reason, explain(made, ALICE, "retired").grant) == ("disabled", "")
    unknown = explain(made, ALICE, "claude-hiku")
    assert (unknown.reason, unknown.grant, unknown.near[0]) == ("unknown", "", "claude-haiku")


def test_an_alias_is_explained_by_its_targets():
    aliases = {"models": {"fast": {"dst": ["bedrock/claude-haiku", "old/retired", "bedrock/gone"]}}}
    explanation = explain(ready(grant("*", role="user"), model_aliases=aliases), ALICE, "fast")
    assert explanation.alias == "first"
    states = {offer.name: offer.state for offer in explanation.offers}
    assert states == {"bedrock/claude-haiku": "not_granted", "old/retired": "disabled", "bedrock/gone": "unknown"}
    assert '"models": "bedrock/claude-haiku"' in explanation.grant


@pytest.mark.parametrize(
    ("identity", "source", "kind"),
    [
        (BOTH, "tag:api", "tags"),
        (BOTH, "tag:prod,tag:api", "tags"),
        (ALICE, "Alice@Example.com", "case"),
        (ALICE, "group:Eng", "case"),
        (ALICE, " alice@example.com", "spelling"),
        (ALICE, "group:alice@example.com", "spelling"),
        (ALICE, "bob@example.com", "other"),
        (BOTH, "tag:ci", "other"),
    ],
)
def test_a_source_that_nearly_matches_is_named(identity, source, kind):
    explanation = explain(ready(grant(source, role="user", models="**")), identity, "claude-haiku")
    assert misses(explanation) == [(kind, source)]


@pytest.mark.parametrize(
    ("pattern", "model", "kind"),
    [
        ("Bedrock/**", "claude-haiku", "case"),
        ("bedrock/*", "arn:x/y", "segment"),
        ("bedrock/arn:*", "arn:x/y", "segment"),
        ("claude-*", "claude-haiku", "provider"),
    ],
)
def test_a_pattern_that_nearly_covers_a_model_is_named(pattern, model, kind):
    explanation = explain(ready(grant("*", role="user", models=pattern)), ALICE, model)
    assert misses(explanation) == [(kind, pattern)]


def test_a_grant_for_others_that_would_not_help_is_not_named():
    made = ready(
        grant("*", role="user"), grant("bob@example.com", role="admin"), grant("bob@example.com", models="x/**")
    )
    assert misses(explain(made, ALICE, "claude-haiku")) == []


def test_the_whole_tag_string_is_what_is_suggested_for_a_node():
    explanation = explain(ready(grant("tag:api", role="user", models="**")), BOTH, "claude-haiku")
    assert json.loads(explanation.grant)["src"] == ["tag:api,tag:prod"]
    assert '"tag:api,tag:prod"' in explanation.near_misses[0].message
    assert '"dst"' in explanation.policy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (("alice@example.com", ["eng"]), ALICE),
        (("tag:prod,tag:api",), BOTH),
        (("tag:prod", [], ["tag:api"]), BOTH),
        (("", [], ["tag:api", "tag:prod"]), BOTH),
        (("(loopback)",), LOOPBACK),
        (("robot", ["ops"], ["tag:ci"]), Identity("robot", ("ops",), ("tag:ci",))),
    ],
)
def test_an_operator_names_a_caller_as_grants_do(text, expected):
    assert somebody(*text) == expected


@pytest.mark.parametrize(
    "text",
    [("",), ("*",), ("tagged-devices",), ("group:eng",), ("a\nb",), ("al", ["e\x1b"]), ("", [], ["ci"]), ("tag:a,b",), ("tag:a", ["g"])],
)  # fmt: skip
def test_a_caller_that_nobody_can_be_is_refused(text):
    with pytest.raises(NoSuchCaller):
        somebody(*text)


def test_the_words_tell_a_slip_from_a_grant_for_others():
    explanation = explanation_text(
        explain(ready(grant("Alice@example.com", "bo", role="user", models="**")), ALICE, "claude-haiku")
    )
    assert "  near miss, grants[0] (config.hujson:1:" in explanation
    assert "  given to others, grants[0] (config.hujson:1:" in explanation


def test_the_words_name_groups_headers_and_the_targets_of_an_alias():
    aliases = {"models": {"fast": {"dst": ["bedrock/claude-haiku", "old/retired"]}}}
    made = ready(grant("*", role="user", models="**", add_headers=["X-Team: s3cret"]), model_aliases=aliases)
    lines = explanation_text(explain(made, ALICE, "fast")).splitlines()
    assert lines[0] == 'alice@example.com (group eng) may use "fast":'
    assert lines[2] == "  an alias; which of its targets gets a call: first"
    assert lines[3].startswith('  "bedrock/claude-haiku": models "**" by grants[0] (')
    assert lines[4:] == ["    adds X-Team", '  "old/retired": disabled by "disabled": true']


@pytest.mark.parametrize(
    ("setting", "model", "expected"),
    [
        (False, SONNET, ""),
        (True, SONNET, "clients that cannot ask"),
        ("all", SONNET, "all clients"),
        ("all", "us.amazon.nova-lite-v1:0", ""),  # no known price of cache writes
        ("all", "us.meta.llama4-maverick-17b-instruct-v1:0", ""),
    ],
)
def test_the_clients_for_whom_prompts_are_cached_are_named(setting, model, expected):
    made = ready(
        grant("*", role="user", models="**"),
        providers={"b": bedrock("https://b.example", models=[model], auto_cache=setting)},
    )
    explanation = explain(made, ALICE, model)
    assert explanation.offers[0].auto_cache == expected
    assert (f"    caches prompts for {expected}" in explanation_text(explanation).splitlines()) is bool(expected)
