"""Tests of the description of the HTTP API: it is complete, and Schemathesis finds no difference from a running
gateway.
"""

import asyncio
import json
import os
import sys

import pytest

from gateway.web.admin.openapi import description
from tests.clients.samples import TOOLS_FOLDER
from tests.helpers.examples import examples
from tests.web.admin.conftest import TEXT, from_file

TOOL = TOOLS_FOLDER / "schemathesis"
"""The folder with Schemathesis, which has an environment of its own. It would add a plugin to every run of pytest, and
needs other versions of packages.
"""
COMMAND = "from schemathesis.cli import schemathesis; schemathesis()"
NOT_CHECKED = (
    "positive_data_acceptance",  # any text is a valid body, and few texts are valid configurations
    "missing_required_header",  # it knows no 428, which is what RFC 6585 has for a missing If-Match
)
OPTIONS = ("--max-examples", str(examples(8)), "--seed", "1", "--phases", "coverage,fuzzing", "--continue-on-failure")


async def test_every_path_that_is_described_is_served(served):
    router = served.running.app.router
    served_paths = {(route.method, route.resource.canonical) for route in router.routes() if route.resource}
    described = {
        (method.upper(), path) for path, methods in json.loads(description())["paths"].items() for method in methods
    }
    assert described - served_paths == set()
    own = {(method, path) for method, path in served_paths if path.startswith("/aperture/") and method != "HEAD"}
    assert own - described == set()


@pytest.mark.skipif(not (TOOL / "ready").exists(), reason="schemathesis is not in .tools/schemathesis")
async def test_what_is_described_is_what_happens(config_file, tmp_path):
    config_file.write_text(TEXT)
    async with from_file(config_file, follow=True) as gw:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", COMMAND, "run", f"{gw.url}/aperture/openapi.json", *OPTIONS,
            "--exclude-checks", ",".join(NOT_CHECKED),
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(TOOL), "HOME": str(tmp_path)},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), 300)
    assert process.returncode == 0, output.decode()
    # it leaves out the operation that it has read the description from
    count = sum(map(len, json.loads(description())["paths"].values())) - 1
    assert f"{count} selected / {count} total" in output.decode()
