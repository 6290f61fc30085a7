"""Tests of `"models": "discover"` in the configuration: loading sends no request to the provider, and unknown names
cause no warning.
"""

import json

import pytest

from gateway.config.load import loads
from gateway.contract.registry import KnownPlugins, discover
from gateway.process.command_line import main
from tests.config.examples import KNOWN
from tests.helpers.own_plugins import discover_own

FLAG = """
from gateway.contract.flag import Facts, Route, UpstreamRequest
api = 1
dialects = ("acme_text",)
routes = (Route("POST", "/acme/v1/text", "generate"),)
def build(request, target, drop): return UpstreamRequest("POST", "/", b"")
def meter(request, target, head): return None
"""


def loaded(provider, plugins=None, **sections):
    whole = {
        "baseurl": "https://bedrock-runtime.us-east-1.amazonaws.com", "apikey": "k", "models": "discover",
        "cost_basis": "bedrock-us", "compatibility": {"bedrock_converse": True}, **provider,
    }  # fmt: skip
    grants = [{"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"role": "admin", "models": "p/any-name"}]}}]
    text = json.dumps({"providers": {"p": whole}, "grants": grants, **sections})
    return loads(text, plugins=plugins or discover_own().known)


def warnings(*args, **sections):
    return [str(finding) for finding in loaded(*args, **sections).warnings]


def test_the_word_is_read_and_causes_no_warning():
    result = loaded({})
    assert (result.config.providers["p"].discovers, result.config.providers["p"].models) == (True, ())
    assert result.warnings == ()


def test_a_list_with_this_name_is_a_list():
    provider = loaded({"models": ["discover"]}).config.providers["p"]
    assert (provider.discovers, provider.models) == (False, ("discover",))


@pytest.mark.parametrize(
    "provider",
    [
        {"base_models": {"arn:aws:bedrock:us-east-1:1:application-inference-profile/a": "amazon.nova-lite-v1:0"}},
        {"capabilities": {"*claude*": {"prefill": False}}},
        {"model_cost_map": [{"match": "m-*", "as": "amazon.nova-lite-v1:0"}]},
    ],
)
def test_settings_of_models_that_are_not_known_yet_cause_no_warning(provider):
    assert warnings(provider) == []


def test_an_alias_of_a_model_that_is_not_known_yet_causes_no_warning():
    assert warnings({}, model_aliases={"models": {"fast": {"dst": ["p/some-model"]}}}) == []


def test_a_flag_without_a_list_is_a_warning(tmp_path):
    (tmp_path / "acme_text.py").write_text(FLAG)
    told = warnings({"compatibility": {"acme_text": True}}, discover(tmp_path).known)
    assert any(
        line.endswith("providers.p.models: no enabled flag has a list of models; name the models") for line in told
    )


def test_a_flag_whose_search_fails_is_named(tmp_path):
    (tmp_path / "acme_text.py").write_text(f"{FLAG}\ndef discover_models(host): return host.nothing\n")
    told = warnings({"compatibility": {"acme_text": True}}, discover(tmp_path).known)
    assert any("plugin acme_text failed in discover_models: AttributeError" in line for line in told)


def test_without_plugins_nothing_is_said_of_lists():
    assert warnings({}, KnownPlugins(KNOWN)) == []


def test_check_says_that_names_are_not_checked(tmp_path, capsys):
    path = tmp_path / "config.hujson"
    path.write_text(loaded({}).text)
    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: providers.p lists its models at run time, so their names are not checked",
        f"{path}: 1 providers, 0 models, 0 warnings",
    ]
