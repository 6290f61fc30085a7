"""Tests that a gateway that serves calls imports only what it needs for them. The check runs in a new interpreter."""

import json
import subprocess
import sys

from tests.helpers.processes import ROOT, environment

UNNEEDED = (
    "gateway.web.dashboard.frame",
    "jinja2",
    "multiprocessing",
    "structlog",
    "gateway.testkit",
    "gateway.process.demo",
    "openai",
    "anthropic",
    "botocore",
    "pytest",
)
"""Packages and modules that calls do without: those of the pages, of worker processes, of terminals, of the testkit, and
of clients."""
SERVE = """
import asyncio, json, sys
from pathlib import Path
from gateway.process import command_line
from gateway.config.load import loads
from gateway.contract.registry import discover
from gateway.process.serve import listening
from gateway.telemetry.log import configure


async def main(state):
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


def test_serving_imports_only_what_calls_need(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", SERVE, tmp_path],
        cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, check=True,
    )  # fmt: skip
    result = json.loads(run.stdout)
    assert result["status"] == "403"
    unneeded = [name for name in result["modules"] if f"{name}.".startswith(tuple(f"{one}." for one in UNNEEDED))]
    assert unneeded == []
