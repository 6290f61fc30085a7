"""Tests of warnings about problems with keys, addresses, sources and quotas. Without the warning, a problem would show
only at the first call.
"""

import pytest

from gateway.contract.registry import KnownPlugins, discover
from tests.config.examples import KNOWN, config, warnings
from tests.helpers.authors_mistakes import FLAG

URL = "https://bedrock-runtime.{}.amazonaws.com"
CLAUDE = "{}.anthropic.claude-haiku-4-5-20251001-v1:0"
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"


def warnings_of(provider=None, **sections):
    return warnings(config(provider, **sections), plugins=KnownPlugins(KNOWN))


def bedrock(region="us-east-1", **members):
    flags = {"bedrock_converse": True}
    return {"baseurl": URL.format(region), "cost_basis": "bedrock", "compatibility": flags, **members}


@pytest.mark.parametrize("key", ["<your-bedrock-api-key>", "your-api-key", "YOUR_KEY", "changeme", "xxxx", "..."])
def test_a_placeholder_is_no_key(key):
    (warning,) = warnings_of({"apikey": key})
    assert warning.startswith("providers.p.apikey: is a placeholder; ")


@pytest.mark.parametrize("key", ["cmd:pass show bedrock", "vault:secret/x", "op://vault/item"])
def test_a_form_of_key_that_is_not_read_is_named(key):
    (warning,) = warnings_of({"apikey": key})
    assert warning.startswith(f'providers.p.apikey: "{key.partition(":")[0]}:" is not read')
    assert "show" not in warning


@pytest.mark.parametrize(("mode", "count"), [(0o644, 1), (0o604, 1), (0o640, 0), (0o600, 0)])
def test_a_key_file_that_everybody_reads_is_told_of(tmp_path, mode, count):
    (tmp_path / "key").write_text("a-key-in-a-file")
    (tmp_path / "key").chmod(mode)
    messages = warnings_of({"apikey": f"file:{tmp_path / 'key'}"})
    assert [warning.partition(";")[0] for warning in messages] == [
        "providers.p.apikey: every user of this machine can read the key's file"
    ] * count


@pytest.mark.parametrize(
    ("provider", "message"),
    [
        (
            bedrock(baseurl="https://bedrock.us-east-1.amazonaws.com"),
            "write https://bedrock-runtime.us-east-1.amazonaws",
        ),
        (
            bedrock(baseurl="https://bedrock.eusc-de-east-1.amazonaws.eu"),
            "write https://bedrock-runtime.eusc-de-east-1.amazonaws.eu",
        ),
        (bedrock("us-est-1"), 'baseurl: "us-est-1" is no region of AWS; did you mean "us-'),
        (bedrock("eu-west-1", models=[CLAUDE.format("us")]), 'models[0]: "us." is no prefix for the region eu-west-1'),
        (bedrock("us-west-2", models=["m", CLAUDE.format("eu")]), 'models[1]: "eu." is no prefix'),
        (bedrock("ap-south-1", models=[CLAUDE.format("us")]), '"us." is no prefix for the region ap-south-1'),
        (
            bedrock("us-gov-west-1", models=["amazon.nova-lite-v1:0"], cost_basis="bedrock-us"),
            'cost_basis: has no prices of us-gov-west-1, which "amazon.nova-lite-v1:0" needs; write "bedrock-us-gov"',
        ),
        (bedrock(models=[ARN]), "models[0]: the ARN says neither price nor abilities"),
    ],
)
def test_a_bedrock_that_cannot_be_called_as_it_is_written_is_told_of(provider, message):
    (warning,) = warnings_of(provider)
    assert message in warning


@pytest.mark.parametrize(
    "provider",
    [
        bedrock(models=[CLAUDE.format("us"), CLAUDE.format("global")]),
        bedrock("us-gov-west-1"),
        bedrock("us-gov-west-1", models=["amazon.nova-lite-v1:0"], cost_basis="bedrock-us-gov"),
        bedrock("us-gov-west-1", models=[CLAUDE.format("us-gov")], cost_basis="bedrock"),
        bedrock("eu-central-1", models=[CLAUDE.format("eu")]),
        bedrock("ca-central-1", models=[CLAUDE.format("us")]),
        bedrock("ap-northeast-1", models=[CLAUDE.format("apac"), CLAUDE.format("jp")]),
        bedrock(models=[ARN], base_models={ARN: "anthropic.claude-haiku-4-5-20251001-v1:0"}),
        bedrock(models=["arn:aws:bedrock:us-east-1:123456789012:inference-profile/" + CLAUDE.format("us")]),
        {"baseurl": URL.format("us-east-1") + "/openai/v1", "compatibility": {"openai_chat": True}},
        {"baseurl": "https://bedrock-mantle.us-east-1.api.aws/v1", "compatibility": {"openai_chat": True}},
        {"baseurl": "https://vpce-0a1b.bedrock-runtime.us-east-1.vpce.amazonaws.com"},
    ],
)
def test_a_bedrock_that_works_is_not_spoken_of(provider):
    assert warnings_of(provider) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("tag:prod,tag:ci", 'tags stand in order, as in "tag:ci,tag:prod"'),
        ("alice@", 'a login goes on behind "@"'),
        ("100.64.0.7", "and not by address"),
        ("fd7a:115c:a1e0::/48", "and not by address"),
        ("*@example.com", "a source is no pattern"),
        ("tagged-devices", "name a tag of the nodes"),
    ],
)
def test_a_source_that_no_caller_can_be_is_told_of(source, message):
    admin = {"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"role": "admin"}, {"models": "**"}]}}
    (warning,) = warnings_of(grants=[admin, {"src": ["bob@example.com", source], "app": {}}])
    assert warning.startswith(f'grants[1].src[1]: "{source}" matches nobody')
    assert message in warning


@pytest.mark.parametrize(
    "source",
    ["*", "alice@example.com", "alice@github", "alice", "group:eng", "tag:ci", "tag:ci,tag:prod", "(loopback)"],
)
def test_a_source_that_a_caller_can_be_is_not_spoken_of(source):
    admin = {"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"role": "admin"}, {"models": "**"}]}}
    assert warnings_of(grants=[admin, {"src": [source], "app": {}}]) == []


def test_a_quota_that_no_grant_names_is_told_of():
    quotas = {"daily:<user>": {"capacity": "$1"}, "all": {"capacity": "$1"}}
    capabilities = [{"role": "admin"}, {"models": "**", "quotas": [{"bucket": "daily:<user>"}]}]
    grants = [{"src": ["*"], "app": {"tailscale.com/cap/aperture": capabilities}}]
    assert warnings_of(quotas=quotas, grants=grants) == ["quotas.all: no grant names the quota; it has no effect"]
    listener = [{"listen": "100.64.0.1:80", "identity": "whois"}]
    (warning,) = warnings_of(quotas=quotas, grants=grants, server={"listeners": listener})
    assert warning.endswith("it has no effect unless the tailnet policy does")


LOCAL = {"listen": "127.0.0.1:8080"}
ADA = {"listen": "127.0.0.1:8081", "identity": "static", "login": "ada@example.com"}


@pytest.mark.parametrize(
    ("listeners", "quotas", "rate_limits", "shared"),
    [
        ([LOCAL], ["daily:<user>"], [], 'the quota "daily:<user>"'),
        ([ADA], ["daily:<node>", "all"], [], 'the quota "daily:<node>"'),
        ([LOCAL, {"listen": "[::1]:8080"}], ["a:<user>", "b:<user>"], [], 'the quota "a:<user>" and the quota "b:<user>"'),
        ([ADA, ADA | {"listen": "127.0.0.1:8082"}], [], [{"requests": "1/min", "per": "user"}], "the rate limits"),
        ([LOCAL], ["a:<user>"], [{"tokens": "1/min", "per": "user_model"}], 'the quota "a:<user>" and the rate limits'),
        ([LOCAL], ["all"], [{"requests": "1/min"}], ""),
        ([LOCAL, ADA], ["daily:<user>"], [], ""),
        ([ADA, ADA | {"listen": "127.0.0.1:8082", "login": "bob@example.com"}], ["daily:<user>"], [], ""),
        ([LOCAL, {"listen": "100.64.0.1:80", "identity": "whois"}], ["daily:<user>"], [], ""),
        (None, ["daily:<user>"], [], ""),
    ],
)  # fmt: skip
def test_a_quota_for_each_caller_where_all_are_one_is_told_of(listeners, quotas, rate_limits, shared):
    buckets = [{"bucket": quotas[0], "overdraft": quotas[1:]}] if quotas else []
    capabilities = [{"role": "admin"}, {"models": "**", "quotas": buckets, "rate_limits": rate_limits}]
    grants = [{"src": ["*"], "app": {"tailscale.com/cap/aperture": capabilities}}]
    server = {"listeners": listeners} if listeners else {}
    found = warnings_of(quotas={name: {"capacity": "$1"} for name in quotas}, grants=grants, server=server)
    assert [text.partition(";")[0] for text in found] == (
        [f"server.listeners: all callers have the same login here, so they share {shared}"] if shared else []
    )


@pytest.mark.parametrize(
    ("limits", "place", "words"),
    [
        ({"body_bytes": 4096, "buffer_bytes": 2048}, "buffer_bytes", "bodies of more than 2048 bytes"),
        ({"buffer_bytes": 1024}, "buffer_bytes", "although 33554432 (server.limits.body_bytes) are allowed"),
        ({"body_bytes": 1 << 30}, "body_bytes", "bodies of more than 201326592 bytes"),
        ({"calls": 10, "calls_per_identity": 11}, "calls_per_identity", "server.limits.calls allows 10 in all"),
        ({"connections": 8, "connections_per_peer": 9}, "connections_per_peer", "connections allows 8 in all"),
    ],
)
def test_limits_that_contradict_each_other_are_reported(limits, place, words):
    (warning,) = warnings_of({}, server={"limits": limits})
    assert warning.startswith(f"server.limits.{place}: ")
    assert words in warning


@pytest.mark.parametrize(
    "limits",
    [
        {"body_bytes": 4096, "buffer_bytes": 4096},
        {"calls": 10},
        {"calls": 10, "calls_per_identity": 10},
        {"connections": 8},
        {"connections_per_peer": 1_000_000},
    ],
)
def test_limits_that_agree_are_not_reported(limits):
    assert warnings_of({}, server={"limits": limits}) == []


@pytest.mark.parametrize(
    ("flags", "url", "is_told"),
    [
        ({"bedrock_converse": True}, URL.format("us-east-1") + "/v1", True),
        ({"bedrock_model_invoke": True, "bedrock_converse": True}, URL.format("us-east-1") + "/v1/", True),
        ({"openai_chat": True}, URL.format("us-east-1") + "/openai/v1", False),
        ({"bedrock_converse": True}, "https://proxy.example.com/v1", False),
        ({"acme_text": True}, "https://example.com/acme", True),
    ],
)
def test_a_flag_tells_what_is_wrong_with_an_address_once(tmp_path, flags, url, is_told):
    (tmp_path / "acme_text.py").write_text(
        f"{FLAG}\n\ndef base_url_fault(url):\n    return 'leave out /acme' if url.endswith('/acme') else ''\n"
    )
    text = config({"baseurl": url, "compatibility": flags, "cost_basis": "bedrock"})
    told = [
        line for line in warnings(text, plugins=discover(tmp_path).known) if line.startswith("providers.p.baseurl: ")
    ]
    assert len(told) == is_told


def test_a_flag_whose_check_of_an_address_fails_is_named(tmp_path):
    (tmp_path / "acme_text.py").write_text(f"{FLAG}\n\ndef base_url_fault(url):\n    return url.nothing\n")
    text = config({"compatibility": {"acme_text": True}})
    (told,) = [line for line in warnings(text, plugins=discover(tmp_path).known) if "baseurl" in line]
    assert "plugin acme_text failed in base_url_fault: AttributeError" in told
