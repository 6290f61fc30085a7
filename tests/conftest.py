"""Fixtures for every test. If IRISGATE_NO_SKIPS is set, a skip is a failure."""

import gc
import os

import hypothesis
import pytest
from aiohttp import web_app

from gateway.testkit.anthropic import AnthropicSim
from gateway.testkit.bedrock import BedrockSim
from gateway.testkit.gemini import GeminiSim
from gateway.testkit.openai import OpenAISim
from tests.helpers.gateway import KEY
from tests.helpers.postgres import cluster, require_postgres

RECORDINGS = "recordings"
"""First word of the reason for skipping a test whose recordings are missing. Recordings cannot be installed.

Such a skip is allowed even if IRISGATE_NO_SKIPS is set.
"""


LONG = {
    "attacks/test_loop_blocks.py",
    "attacks/test_loop_blocks_lists.py",
    "bench/test_bench.py",
    "clients/test_claude_code.py",
    "clients/test_codex.py",
    "clients/test_gemini_cli.py",
    "clients/test_launcher.py",
    "clients/test_opencode.py",
    "clients/test_translated_claude_code.py",
    "contract/test_caches.py",
    "end_to_end/test_backup_under_load.py",
    "end_to_end/test_broken_replies.py",
    "end_to_end/test_cluster.py",
    "end_to_end/test_command_line.py",
    "end_to_end/test_cuts.py",
    "end_to_end/test_handover.py",
    "end_to_end/test_kill.py",
    "end_to_end/test_left_calls.py",
    "end_to_end/test_lost_calls.py",
    "end_to_end/test_money_evasion.py",
    "end_to_end/test_postgres.py",
    "end_to_end/test_process.py",
    "end_to_end/test_restarts.py",
    "end_to_end/test_shared_config.py",
    "end_to_end/test_shared_quotas.py",
    "end_to_end/test_states.py",
    "end_to_end/test_trouble.py",
    "end_to_end/test_try_tailnet.py",
    "end_to_end/test_upgrade.py",
    "end_to_end/test_workers.py",
    "end_to_end/test_workers_pages.py",
    "end_to_end/test_workers_trouble.py",
    "faults/test_failover.py",
    "faults/test_offsets.py",
    "faults/test_random_calls.py",
    "laws/test_carried.py",
    "laws/test_conversions.py",
    "laws/test_shipped_laws.py",
    "money/prices/test_money.py",
    "money/prices/test_parts.py",
    "plugins/translators/test_converse_to_faults.py",
    "plugins/translators/test_round_trips.py",
    "process/test_development.py",
    "process/test_doctor.py",
    "process/test_new_plugin.py",
    "process/test_package_upgrade.py",
    "release/test_beside_another_package.py",
    "release/test_wheel.py",
    "store/test_backup.py",
    "store/test_header_sums.py",
    "store/test_open_calls.py",
    "store/test_postgres.py",
    "store/test_store.py",
    "store/test_sums.py",
    "upstream/test_process_pool.py",
    "web/admin/test_openapi.py",
    "web/admin/test_under_load.py",
    "web/dashboard/test_config_editor.py",
    "web/dashboard/test_layout.py",
    "web/dashboard/test_script.py",
    "web/test_slow_connections.py",
}
"""Test files that take long. They run first, so that no processor is idle at the end of the run."""


def pytest_addoption(parser):
    parser.addoption(
        "--rewrite-golden", action="store_true", help="write tests/golden and the pages' tables anew; review the diff"
    )
    parser.addoption(
        "--signatures", type=int, default=1000, help="how many random requests are signed and compared with botocore"
    )


@pytest.fixture
def postgres():
    """Skip the test if PostgreSQL or asyncpg is not installed."""
    require_postgres()


@pytest.fixture
def address():
    """Create an empty PostgreSQL database, and return its address."""
    return cluster().address()


@pytest.fixture
def rewriting(request):
    """Return whether the test run writes golden files (files with expected results) instead of comparing with them."""
    return request.config.getoption("--rewrite-golden")


def pytest_terminal_summary(terminalreporter):
    if not os.environ.get("IRISGATE_NO_SKIPS"):
        return
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", ())]
    exempt = sum(reason.startswith(RECORDINGS) for reason in reasons)
    terminalreporter.write_line(f"{exempt} tests skipped for want of the recordings beside the checkout")
    for reason in reasons:
        if not reason.startswith(RECORDINGS):
            terminalreporter.write_line(f"not allowed to skip here: {reason}", red=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """Return the number of test processes for `--numprocesses auto`: three for every two processors.

    A test spends some of its time waiting for timers and for processes that it has started.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return processors + processors // 2


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("IRISGATE_NO_SKIPS") or reporter is None:
        return
    skipped = reporter.stats.get("skipped", ())
    if any(not report.longrepr[2].removeprefix("Skipped: ").startswith(RECORDINGS) for report in skipped):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


# the same examples each time where every test must pass; elsewhere new ones, which find new faults
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("searching", deadline=None)
hypothesis.settings.load_profile("repeatable" if os.environ.get("IRISGATE_NO_SKIPS") else "searching")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.nodeid.partition("::")[0].removeprefix("tests/") not in LONG)


def pytest_sessionstart():
    """Switch garbage collection off while pytest collects the tests, because this creates hardly any garbage."""
    gc.disable()


def pytest_collection_finish():
    """Switch garbage collection on, for new objects only. Scanning the objects that pytest has made would take a second
    each time.
    """
    gc.freeze()
    gc.enable()


def pytest_runtest_teardown():
    """Empty aiohttp's cache of middlewares. It would keep the last 1,024 gateways of a process in memory, each with a
    thread for its log.
    """
    web_app._cached_build_middleware.cache_clear()


@pytest.fixture
async def bedrock_sim():
    async with BedrockSim(keys={KEY}) as simulated:
        yield simulated


@pytest.fixture
async def anthropic_upstream():
    async with AnthropicSim(keys={KEY}) as simulated:
        yield simulated


@pytest.fixture
async def gemini_upstream():
    async with GeminiSim(keys={KEY}) as simulated:
        yield simulated


@pytest.fixture
async def openai_upstream():
    async with OpenAISim(keys={KEY}) as simulated:
        yield simulated
