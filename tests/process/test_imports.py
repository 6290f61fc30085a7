"""Tests that a gateway imports only the modules that it needs to serve its calls. Each test runs a new interpreter."""

import json
import subprocess
import sys

from gateway.config.example import MINIMAL
from gateway.contract.plugin_packages import installed_packages
from tests.helpers.processes import ROOT, environment

UNNEEDED = (
    "gateway.web.dashboard.frame",
    "gateway.web.http2",
    "h2",
    "jinja2",
    "multiprocessing",
    "structlog",
    "gateway.config.export",
    "gateway.process.demo",
    "gateway.process.doctor",
    "gateway.process.prices_command",
    "gateway.testkit",
    "gateway.web.usage.command",
    "openai",
    "anthropic",
    "botocore",
    "pytest",
)
"""Packages and modules that are not needed to serve calls: those of the pages, of other commands, of worker processes,
of terminals, of the testkit, and of clients.
"""
SERVE = """
import asyncio, json, sys
from pathlib import Path
from gateway.process.command_line import parser_of
from gateway.config.load import loads
from gateway.contract.registry import discover
from gateway.process.serve import listening
from gateway.telemetry.log import configure


async def main(state):
    parser_of({"serve"})
    registry = discover()
    document = {"server": {"listeners": [{"listen": "127.0.0.1:0"}]}}
    config = loads(json.dumps(document), plugins=registry.known).config
    async with listening(config, registry, state=Path(state), log=configure(open("/dev/null", "wb"))) as running:
        port = int(running.urls[0].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
        head = "POST /v1/chat/completions HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n"
        writer.write((head % len(body)).encode() + body)
        status = (await reader.read()).split()[1].decode()
        writer.close()
    print(json.dumps({"status": status, "modules": sorted(sys.modules)}))


asyncio.run(main(sys.argv[1]))
"""


VERSION = """
import sys
from gateway.process.command_line import main

try:
    main(["--version"])
except SystemExit:
    print(*sorted(sys.modules))
"""


CHECK = """
import sys
from gateway.process.command_line import main

main(["check", *sys.argv[2:]])
print(*sorted(sys.modules))
"""


def test_serving_imports_only_what_calls_need(tmp_path):
    result = json.loads(run(SERVE, tmp_path))
    assert result["status"] == "403"
    assert unneeded(result["modules"], UNNEEDED) == []


def test_the_version_is_printed_without_the_gateway(tmp_path):
    printed, modules = run(VERSION, tmp_path).splitlines()
    assert printed.startswith("irisgate ")
    rooms = [f"gateway.{room}" for room in ("access", "call", "config", "contract", "store", "upstream", "web")]
    assert unneeded(modules.split(), ["aiohttp", "pydantic", "asyncio", *rooms]) == []


def test_a_configuration_is_checked_without_the_parts_that_serve(tmp_path):
    """Check that `irisgate check` does not import the modules that serve calls.

    Plugins of other packages are excluded, because comparing their routes with the gateway's needs these modules.
    """
    file = tmp_path / "config.hujson"
    file.write_text(MINIMAL)
    others = [f"--without={name}" for package, _ in installed_packages() for name in package.plugins]
    *_, printed, modules = run(CHECK, tmp_path, file, *others).splitlines()
    assert "1 providers" in printed
    rooms = [f"gateway.{room}" for room in ("access", "call", "store", "upstream", "web", "process.app")]
    assert unneeded(modules.split(), ["aiohttp", *rooms]) == []


def run(code, state, *arguments):
    command = [sys.executable, "-c", code, state, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(state), capture_output=True, text=True, check=True).stdout


def unneeded(modules, packages):
    """Return the names in `modules` that belong to one of `packages`."""
    return [name for name in modules if f"{name}.".startswith(tuple(f"{one}." for one in packages))]
