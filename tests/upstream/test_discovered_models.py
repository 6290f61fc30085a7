"""Tests of the lists of models that providers return: changes between two lists, the use of a list in the
configuration, and the file that stores the lists.
"""

from dataclasses import replace
from types import MappingProxyType
from urllib.parse import urlsplit

import msgspec
import pytest

from gateway.config.model import Config, Provider
from gateway.contract.flag import DiscoveredModel
from gateway.upstream.discovered_models import FILE, Difference, DiscoveredModels, KnownList
from gateway.upstream.model_search import MAX_MODELS, ModelSearcher, SearchFailed, checked
from gateway.upstream.subdomains import at_subdomain
from tests.helpers.own_plugins import discover_own

FLAGS = discover_own().flags
URL = "https://bedrock-runtime.us-east-1.amazonaws.com"
BEDROCK = Provider("bedrock", URL, discovers=True)
NAMED = Provider("named", URL, models=("m",))


def configured(*providers):
    return Config(providers=MappingProxyType({provider.id: provider for provider in providers}))


@pytest.fixture
def models(tmp_path):
    return DiscoveredModels(tmp_path / FILE, configured(BEDROCK, NAMED))


def test_the_first_list_adds_all(models):
    assert models.note(BEDROCK, {"b": "", "a": ""}, 1.0) == Difference(("a", "b"), ())


def test_a_difference_has_what_was_added_and_removed(models):
    models.note(BEDROCK, {"a": "", "b": ""}, 1.0)
    assert models.note(BEDROCK, {"b": "", "c": ""}, 2.0) == Difference(("c",), ("a",))
    known = models.list_of(BEDROCK)
    assert (known.at, known.changed_at, known.added, known.removed) == (2.0, 2.0, ("c",), ("a",))


def test_the_same_list_is_no_difference_and_keeps_the_last_one(models):
    models.note(BEDROCK, {"a": ""}, 1.0)
    assert models.note(BEDROCK, {"a": ""}, 2.0) is None
    known = models.list_of(BEDROCK)
    assert (known.at, known.changed_at, known.added) == (2.0, 1.0, ("a",))


def test_another_base_of_a_name_is_a_difference_without_names(models):
    models.note(BEDROCK, {"arn": "x"}, 1.0)
    assert models.note(BEDROCK, {"arn": "y"}, 2.0) == Difference((), ())
    assert models.applied(models.written).providers["bedrock"].base_models == {"arn": "y"}


def test_only_providers_that_discover_get_models(models):
    models.note(BEDROCK, {"a": "", "arn": "x"}, 1.0)
    models.note(NAMED, {"z": ""}, 1.0)
    applied = models.applied(models.written).providers
    assert (applied["bedrock"].models, applied["named"]) == (("a", "arn"), NAMED)


def test_models_of_another_address_are_not_used(models):
    models.note(BEDROCK, {"a": ""}, 1.0)
    moved = replace(BEDROCK, baseurl="https://bedrock-runtime.eu-west-1.amazonaws.com")
    assert models.applied(configured(moved)).providers["bedrock"].models == ()


def test_a_configuration_without_discovery_stays_the_same_object(models):
    config = configured(NAMED)
    assert models.applied(config) is config


def test_lists_are_read_back_without_those_of_removed_providers(models, tmp_path):
    models.note(BEDROCK, {"a": "x"}, 1.0)
    models.note(NAMED, {"z": ""}, 1.0)
    models.written = configured(BEDROCK)
    models.save()
    other = DiscoveredModels(tmp_path / FILE, configured(BEDROCK))
    other.load()
    assert other.lists == {"bedrock": models.list_of(BEDROCK)}
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_list_of_a_later_release_with_more_members_is_read(models):
    known = KnownList(baseurl=URL, at=1.0, models={"a": ""})
    models.path.write_bytes(msgspec.json.encode({"bedrock": {**msgspec.to_builtins(known), "new": 1}}))
    models.load()
    assert models.list_of(BEDROCK) == known


def test_a_reload_forgets_failures_of_providers_that_are_gone_and_asks(models):
    models.failures = {"bedrock": "why", "gone": "why"}
    models.configured(configured(BEDROCK))
    assert models.failures == {"bedrock": "why"}
    assert models.wake.is_set()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (URL, "https://bedrock.us-east-1.amazonaws.com"),
        (f"{URL}:8443/a/v1", "https://bedrock.us-east-1.amazonaws.com:8443"),
        ("http://models.us.example.com", "http://bedrock.us.example.com"),
    ],
)
def test_only_the_first_part_of_the_host_changes(url, expected):
    assert at_subdomain(Provider("p", url), "bedrock").baseurl == expected


@pytest.mark.parametrize("subdomain", ["evil.example", "evil.example/", "a@b", "", "-"])
def test_a_subdomain_is_one_part_of_a_name(subdomain):
    with pytest.raises(ValueError, match="can take the place of no part"):
        at_subdomain(BEDROCK, subdomain)


@pytest.mark.parametrize("url", ["http://localhost:1", "http://models.com", "http://[::1]:1"])
def test_a_host_without_a_subdomain_is_not_changed(url):
    with pytest.raises(ValueError, match="can take the place of no part"):
        at_subdomain(Provider("p", url), "bedrock")


@pytest.mark.parametrize(
    ("url", "flags", "used"),
    [
        (URL, ("bedrock_model_invoke", "bedrock_converse"), "bedrock_model_invoke"),
        (URL, ("anthropic_messages", "bedrock_converse"), "bedrock_converse"),
        ("https://proxy.example.com", ("anthropic_messages", "bedrock_converse"), "anthropic_messages"),
    ],
)
def test_the_first_flag_is_asked_unless_another_knows_the_host(url, flags, used):
    provider = Provider("p", url, flags=flags, host=urlsplit(url).hostname)
    flag, _ = ModelSearcher(None, None, FLAGS, None).search(provider)
    assert flag.name == used


def test_without_a_flag_that_has_a_list_nothing_is_asked():
    with pytest.raises(SearchFailed, match="none of the enabled flags"):
        ModelSearcher(None, None, FLAGS, None).search(BEDROCK)


def test_names_that_no_request_can_have_are_left_out():
    given = ["ok", "", " ", "a\nb", "x" * 2049, "\ud800", "with space"]
    assert checked([DiscoveredModel(name) for name in given]) == {"ok": "", "with space": ""}


@pytest.mark.parametrize("base", ["", "m", "\0"])
def test_a_base_that_says_nothing_is_left_out(base):
    assert checked([DiscoveredModel("m", base)]) == {"m": ""}


@pytest.mark.parametrize("count", [0, MAX_MODELS + 1])
def test_no_models_and_too_many_are_failures(count):
    with pytest.raises(SearchFailed, match="listed"):
        checked([DiscoveredModel(f"m{number}") for number in range(count)])
