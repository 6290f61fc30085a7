"""Tests of the reports about plugin hooks that block the event loop for too long."""

from gateway.call import plugin_reports
from gateway.call.plugin_reports import PluginReports
from gateway.config.model import Config
from gateway.contract.hooks import Hook
from gateway.telemetry.log import configure
from gateway.telemetry.metrics import Metrics
from tests.helpers.gateway import Lines


def hook(name, lines):
    made = Hook("slow_one", name, "tests", lambda: None)
    made.report_slow = PluginReports(Metrics(Config()), configure(lines)).slow
    return made


async def test_a_hook_over_its_budget_is_named_once_a_minute(monkeypatch):
    now, lines = [1000.0], Lines()
    monkeypatch.setattr(plugin_reports, "monotonic", lambda: now[0])
    parse = hook("parse", lines)
    for seconds in (0.05, 0.2, 0.3):
        parse.ran(seconds)
    now[0] += plugin_reports.QUIET_SECONDS
    parse.ran(0.4)
    assert [entry["seconds"] for entry in await lines.until("plugin.slow", 2)] == [0.2, 0.4]
    assert (parse.calls, round(parse.seconds, 2)) == (4, 0.95)


async def test_a_slow_hook_has_the_place_at_which_it_is_written():
    lines = Lines()
    hook("build", lines).ran(0.2)
    (entry,) = await lines.until("plugin.slow")
    assert (entry["plugin"], entry["hook"], entry["level"]) == ("slow_one", "build", "warning")
    assert "test_plugin_reports.py:" in entry["at"]
