"""The measured systems: the gateway, nginx, and a bare pass-through.

The gateway does everything that it can do for a call: it identifies the caller by a simulated tailscaled, applies
grants, counts costs, charges a quota, and writes records, metrics and log lines.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from gateway.testkit.localapi import LocalApiSim
from gateway.testkit.tailnet_nodes import Node, User
from tests.bench.processes import PROCESSORS, ROOT, START_SECONDS, SYSTEMS, NotStarted, Process, started
from tests.bench.traffic import CHAT_MODEL, CONVERSE_MODEL, Request, request_bytes
from tests.helpers.gateway import CAP

TOOLS = ROOT / ".tools"
CALLER = Node("laptop.example.ts.net", ("100.64.0.7",), User("alice@example.com"))
PROXY_LINE = b"PROXY TCP4 100.64.0.7 100.64.0.1 4711 80\r\n"
"""The PROXY header at the beginning of each connection to the gateway. It names the caller's address."""
MANY = 10_000
PROVIDERS_OF_MANY = 10
_RELOADED = b"config.reloaded"
"""The log event of a gateway that has taken over a changed configuration."""
FILTERS = {
    "reading": """
api = 1


def open(call, settings):
    return Reader()


class Reader:
    def text(self, kind, piece, last):
        return piece
""",
    **{
        f"idle_{number}": """
api = 1


def open(call, settings):
    return None
"""
        for number in range(10)
    },
}
"""Plugins that filter calls, by name: one that reads every text, and ten that have nothing to do."""


def _same(value):
    return value


def _no_headers(_request, _upstream):
    return {}


@dataclass(frozen=True, eq=False)
class System:
    """A system that is measured, with functions that adapt a client's request to this system."""

    name: str
    start: Callable[[int, Path], AbstractAsyncContextManager[Process]]
    """A function that runs the system. Its arguments are the port of the upstream, and an empty folder."""
    path: Callable[[str], str] = _same
    """A function that converts the path of a request at the provider to its path at this system."""
    model: Callable[[str], str] = _same
    """A function that converts a model's name at the provider to its name at this system."""
    headers: Callable[[Request, int], Mapping[str, str]] = _no_headers
    """A function that returns the additional headers of a request, from the request and the upstream's port."""
    preface: bytes = b""
    """The first bytes of each connection."""
    version: Callable[[], str] = str
    """A function that returns the version of an installed system."""

    def request(self, request: Request, upstream: int, **headers: str) -> bytes:
        """Return the bytes of a request to this system. `upstream` is the upstream's port."""
        return request_bytes(
            request,
            path=self.path(request.path),
            headers={**self.headers(request, upstream), **headers},
            model=self.model(request.model),
        )


def _provider(upstream, flag, models):
    return {
        "baseurl": f"http://127.0.0.1:{upstream}",
        "apikey": "key-of-the-provider",
        "models": models,
        "compatibility": {flag: True},
    }


def _many(upstream):
    """Return providers with `MANY` models in all, and one grant for each model. Each grant is for a different user."""
    providers, grants = {}, []
    for number in range(PROVIDERS_OF_MANY):
        models = [f"model-{number}-{at:05d}" for at in range(MANY // PROVIDERS_OF_MANY)]
        providers[f"many-{number}"] = _provider(upstream, "openai_chat", models)
        grants += [
            {"src": [f"{model}@example.com"], "app": {CAP: [{"role": "user"}, {"models": f"many-{number}/{model}"}]}}
            for model in models
        ]
    return providers, grants


def _configuration(upstream, folder, *, many=False, filters=()):
    providers, grants = _many(upstream) if many else ({}, [])
    providers["openai"] = {**_provider(upstream, "openai_chat", [CHAT_MODEL]), "cost_basis": "openai"}
    providers["bedrock"] = {**_provider(upstream, "bedrock_converse", [CONVERSE_MODEL]), "cost_basis": "bedrock-us"}
    capabilities = [{"role": "user"}, {"models": "**", "quotas": [{"bucket": "daily:<user>"}]}, {"read_metrics": True}]
    return {
        "providers": providers,
        "grants": [*grants, {"src": [CALLER.user.login], "app": {CAP: capabilities}}],
        "quotas": {"daily:<user>": {"capacity": "$100000000.00", "rate": "$100000000.00/day"}},
        "plugins": {name: {} for name in filters},
        "server": {
            "listeners": [
                {"listen": "127.0.0.1:0", "identity": "proxy-protocol", "tailscaled": str(folder / "tailscaled.sock")},
            ],
            "limits": {"body_bytes": 64 * 2**20, "calls_per_identity": 1000, "connections_per_peer": 1000},
        },
    }


@asynccontextmanager
async def _irisgate(upstream, folder, *, workers=None, **kind):
    """Run the gateway. If `workers` is given, run it with this number of worker processes, on all processors."""
    config, plugins, state = folder / "config.hujson", folder / "plugins", folder / "state"
    config.write_text(json.dumps(_configuration(upstream, folder, **kind)))
    plugins.mkdir()
    for name, text in FILTERS.items():
        (plugins / f"{name}.py").write_text(text)
    command = [sys.executable, "-m", "gateway", "serve", "--config", config, "--state", state, "--plugins", plugins]
    command += [] if workers is None else ["--workers", str(workers)]
    processors = (SYSTEMS,) if workers is None else PROCESSORS
    paths = f"{ROOT}:{ROOT / 'plugins'}"
    async with LocalApiSim(folder / "tailscaled.sock") as tailscaled:
        tailscaled.add(CALLER)
        tailscaled.tun = True  # so that connections from 127.0.0.1 are not asked about
        pattern = r"listening on http://\S+:(\d+)"
        variables = {"PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}
        async with started(command, folder, pattern, processors=processors, **variables) as process:
            yield process


async def reconfigure(process, upstream, folder, *, filters):
    """Let a running gateway reload its configuration with exactly these filters. Return when the gateway has logged the
    reload.
    """
    with (folder / "output").open("rb") as output:
        output.seek(0, os.SEEK_END)
        (folder / "config.hujson").write_text(json.dumps(_configuration(upstream, folder, filters=filters)))
        os.kill(process.pid, signal.SIGHUP)
        until, logged = time.monotonic() + START_SECONDS, b""
        while time.monotonic() < until:
            await asyncio.sleep(0.01)
            logged += output.read()
            if _RELOADED in logged:
                return
    raise AssertionError("the gateway has not reloaded its configuration")


def _bare(upstream, folder):
    command = [sys.executable, "-m", "tests.bench.bare", f"http://127.0.0.1:{upstream}"]
    return started(command, folder, r"port (\d+)", PYTHONPATH=str(ROOT))


NGINX_CONF = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 64m;
  client_body_buffer_size 64m;
  keepalive_requests 1000000000;
  upstream provider {{
    server 127.0.0.1:{upstream};
    keepalive 1024;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


def free_port():
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def nginx_program():
    return shutil.which("nginx", path=f"{TOOLS / 'nginx/usr/sbin'}:/usr/sbin:/usr/bin")


def _nginx_version():
    run = subprocess.run([nginx_program(), "-v"], capture_output=True, text=True, check=True)
    return run.stderr.strip().rpartition("/")[2]


@asynccontextmanager
async def _nginx(upstream, folder):
    program = nginx_program()
    if program is None:
        raise NotStarted("not installed (tests/bench/install nginx)")
    port, conf = free_port(), folder / "nginx.conf"
    conf.write_text(NGINX_CONF.format(folder=folder, upstream=upstream, port=port))
    command = [program, "-p", str(folder), "-c", str(conf), "-e", str(folder / "error.log")]
    async with started(command, folder, port=port) as process:
        yield process


def _own_version():
    """Return the gateway's version, with the commit if this checkout is a Git repository."""
    run = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return f"{version('irisgate')} {run.stdout.strip()}".strip()


def _path_of_irisgate(path):
    return f"/bedrock{path}" if path.startswith("/model/") else path


def gateway(name, **kind):
    """Return the gateway as a system. `kind` are keyword arguments of `_irisgate`."""
    return System(name, partial(_irisgate, **kind), _path_of_irisgate, preface=PROXY_LINE, version=_own_version)


IRISGATE = gateway("Irisgate")
MANY_MODELS = gateway("10,000 models and grants", many=True)
BARE = System("B", _bare, version=lambda: f"aiohttp {version('aiohttp')}")
NGINX = System("nginx", _nginx, version=_nginx_version)
