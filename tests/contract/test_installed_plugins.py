"""Tests that a broken installed plugin is left out with a message. Only a configuration that needs the plugin gets an
error.
"""

import json
import sys

import pytest

from gateway.config.findings import ConfigError
from gateway.config.load import loads
from gateway.contract.registry import PluginError, discover
from gateway.process.app import own_routes
from gateway.process.command_line import main
from tests.helpers.authors_mistakes import FILTER, FLAG, OBSERVER
from tests.helpers.gateway import bedrock, gate
from tests.helpers.installed import importable, install
from tests.helpers.packages_mistakes import INSTALLED

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
    """Yield a folder from which Python imports modules."""
    with importable(tmp_path, monkeypatch, "acme_plugin", "acme_names") as folder:
        yield folder


def test_a_plugin_of_an_installed_package_is_found(site):
    install(site)
    registry = discover(own=own_routes)
    assert "acme" in registry.flags
    assert registry.skipped == ()


@pytest.mark.parametrize("mistake", INSTALLED, ids=lambda mistake: mistake.title)
def test_a_broken_plugin_is_left_out_and_the_others_work(site, mistake):
    install(site, **mistake.package)
    registry = discover(own=own_routes)
    (skipped,) = registry.skipped
    (broken,) = skipped.mistakes
    assert skipped.package == "acme-plugins 2.1"
    assert (broken.place.replace(str(site), "SITE"), broken.message) == (mistake.place, mistake.message)
    assert len(registry.flags) == len(discover_without_packages(site))


def discover_without_packages(site):
    sys.path.remove(str(site))
    return discover().flags


KINDS = {"flags": FLAG, "filters": FILTER, "observers": OBSERVER}


@pytest.mark.parametrize("through_a_link", [False, True])
@pytest.mark.parametrize("group", KINDS)
def test_one_file_is_installed_and_in_the_folder(tmp_path, site, group, through_a_link):
    """Check that a plugin is loaded once if its installed file is also in the folder of `--plugins`.

    This is the case for `--plugins .` after `pip install -e .`. The folder may also be a symbolic link.
    """
    install(site, KINDS[group], name="acme_plugin", group=group)
    folder = site
    if through_a_link:
        (folder := tmp_path / "link").symlink_to(site)
    registry = discover(folder, own=own_routes)
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
