"""Tests that a broken installed plugin is left out and named, and is an error only if a configuration needs it."""

import json
import sys

import pytest

from gateway.__main__ import main
from gateway.config.findings import ConfigError
from gateway.config.load import loads
from gateway.contract.registry import PluginError, discover
from gateway.process.app import own_routes
from tests.helpers.authors_mistakes import FILTER, FLAG, OBSERVER
from tests.helpers.gateway import bedrock, gate
from tests.helpers.installed import install

LACKS_MODULE = "the package has no module acme_plugins; mend its entry point, or add the module to the package"
BROKEN = {
    "code that raises": (
        {"source": "import os\n\nos.environ['ACME_NO_KEY']\n"},
        "FOLDER/acme_plugin.py:3",
        "KeyError: 'ACME_NO_KEY'",
    ),
    "code that ends the process": (
        {"source": "raise SystemExit\n"},
        "FOLDER/acme_plugin.py:1",
        "SystemExit:; a plugin must not end the process",
    ),
    "another version of the contract": (
        {"source": FLAG.replace("api = 1", "api = 7")},
        "FOLDER/acme_plugin.py:5",
        "api = 7; write api = 1, the version of this gateway",
    ),
    "a package that it needs and that is not installed": (
        {"source": "import acme_sdk\n"},
        "FOLDER/acme_plugin.py:1",
        "ModuleNotFoundError: No module named 'acme_sdk'; install acme_sdk where the gateway is installed",
    ),
    "an entry point of another module": (
        {"value": "acme_plugins.flag"},
        "entry point acme = acme_plugins.flag",
        f"ModuleNotFoundError: No module named 'acme_plugins'; {LACKS_MODULE}",
    ),
    "an entry point that is no module": (
        {"value": "acme_plugin:meter"},
        "entry point acme = acme_plugin:meter",
        "is no module, but function; name its module: acme = acme_plugin",
    ),
    "an entry point with a wrong name in the module": (
        {"value": "acme_plugin:flag"},
        "entry point acme = acme_plugin:flag",
        "AttributeError: module 'acme_plugin' has no attribute 'flag'",
    ),
    "an entry point in the group of another kind": (
        {"group": "observers"},
        "entry point acme = acme_plugin",
        "is a flag; write its entry point in the group irisgate.flags",
    ),
    "the name of a built-in flag": (
        {"name": "openai_chat"},
        "entry point openai_chat = acme_plugin",
        "there is one of that name already: the gateway itself; take another name",
    ),
    "a route of the gateway itself": (
        {"source": FLAG.replace('"POST", "/acme/v1/text"', '"GET", "/metrics"')},
        "FOLDER/acme_plugin.py:7",
        "GET /metrics would hide the gateway's own /metrics; take a path with the plugin's name",
    ),
}
CONFIGURATION = {
    "providers": {
        "acme": {
            "baseurl": "https://api.example.com",
            "apikey": "k",
            "models": ["m"],
            "compatibility": {"openai_chat": True, "acme": True},
        }
    },
    "grants": [{"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"role": "admin"}, {"models": "**"}]}}],
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Return a folder from which Python imports modules."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("acme_plugin", None)


def test_a_plugin_of_an_installed_package_is_found(site):
    install(site)
    registry = discover(own=own_routes())
    assert "acme" in registry.flags
    assert registry.skipped == ()


@pytest.mark.parametrize(("package", "place", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_left_out_and_the_others_work(site, package, place, reason):
    install(site, **package)
    registry = discover(own=own_routes())
    (skipped,) = registry.skipped
    (mistake,) = skipped.mistakes
    assert skipped.package == "acme-plugins 2.1"
    assert (mistake.place.replace(str(site), "FOLDER"), mistake.message) == (place, reason)
    assert len(registry.flags) == len(discover_without_packages(site))


def discover_without_packages(site):
    sys.path.remove(str(site))
    return discover().flags


KINDS = {"flags": FLAG, "filters": FILTER, "observers": OBSERVER}


@pytest.mark.parametrize("through_a_link", [False, True])
@pytest.mark.parametrize("group", KINDS)
def test_one_file_is_installed_and_in_the_folder(tmp_path, site, group, through_a_link):
    """Check `--plugins .` where the package was installed by `pip install -e .`, also through a symbolic link."""
    install(site, KINDS[group], name="acme_plugin", group=group)
    folder = site
    if through_a_link:
        (folder := tmp_path / "link").symlink_to(site)
    registry = discover(folder, own=own_routes())
    assert "acme_plugin" in getattr(registry, group)
    assert registry.skipped == ()


@pytest.mark.parametrize("group", KINDS)
def test_another_file_of_an_installed_name_is_an_error(tmp_path, site, group):
    install(site, KINDS[group], name="acme_plugin", group=group)
    (folder := tmp_path / "plugins").mkdir()
    (folder / "acme_plugin.py").write_text(KINDS[group])
    with pytest.raises(PluginError) as error:
        discover(folder)
    assert str(error.value).endswith(
        "there is one of that name already: acme-plugins 2.1; leave out --plugins, uninstall the package, or "
        "take another name"
    )


@pytest.mark.parametrize("value", [True, False])
def test_a_broken_flag_is_an_error_where_a_provider_has_it(site, value):
    install(site, FLAG.replace("api = 1", "api = 7"))
    registry = discover()
    configuration = json.loads(json.dumps(CONFIGURATION))
    configuration["providers"]["acme"]["compatibility"]["acme"] = value
    if not value:
        assert loads(json.dumps(configuration), plugins=registry.known).warnings == ()
        return
    with pytest.raises(ConfigError) as error:
        loads(json.dumps(configuration, indent=1), plugins=registry.known)
    (finding,) = error.value.findings
    assert finding.path == "providers.acme.compatibility.acme"
    assert finding.line == 11
    assert finding.message == (
        f"its plugin cannot be used: acme-plugins 2.1: {site}/acme_plugin.py:5: plugin acme: api = 7; "
        "write api = 1, the version of this gateway"
    )


def test_a_broken_filter_is_an_error_where_the_configuration_names_it(site):
    install(site, FILTER.replace("api = 1", "api = 7"), group="filters")
    configuration = {**json.loads(json.dumps(CONFIGURATION)), "plugins": {"acme": {}}}
    configuration["providers"]["acme"]["compatibility"] = {"openai_chat": True}
    with pytest.raises(ConfigError) as error:
        loads(json.dumps(configuration), plugins=discover().known)
    (finding,) = error.value.findings
    assert finding.path == "plugins.acme"
    assert finding.message.startswith(f"its plugin cannot be used: acme-plugins 2.1: {site}/acme_plugin.py:1: ")


async def test_a_gateway_starts_without_a_broken_plugin_and_logs_it_once(tmp_path, site, bedrock_sim):
    install(site, OBSERVER.replace("record", ""), group="observers")
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "watching.py").write_text(OBSERVER)
    async with gate(tmp_path / "state", {"b": bedrock(bedrock_sim.url)}, plugins=folder) as gw:
        (line,) = await gw.lines.until("plugin.skipped")
        assert (line["plugin"], line["package"]) == ("acme", "acme-plugins 2.1")
        assert line["at"] == f"{site}/acme_plugin.py:4"
        assert line["reason"] == "seen must take 1 argument(s) by position; write def seen(record)"


def test_the_commands_name_a_broken_plugin(tmp_path, site, capfd):
    install(site, "import acme_sdk\n")
    file = tmp_path / "config.hujson"
    file.write_text(json.dumps(CONFIGURATION))
    mistake = f"acme-plugins 2.1: {site}/acme_plugin.py:1: plugin acme: ModuleNotFoundError: No module named 'acme_sdk'"
    assert main(["plugins", "list"]) == 0
    assert mistake in capfd.readouterr().out
    assert main(["doctor", "--state", str(tmp_path / "state"), "--json"]) == 1
    (check,) = [check for check in json.loads(capfd.readouterr().out)["checks"] if check["check"] == "plugins"]
    assert check["state"] == "warning"
    assert check["message"].startswith(mistake)
    for command in (["check", str(file)], ["serve", "--config", str(file), "--state", str(tmp_path / "state")]):
        assert main(command) == 2
        assert f"its plugin cannot be used: {mistake}" in capfd.readouterr().err
