"""Other gateways, with which this gateway is compared. The script `tests/bench/install` installs them."""

import json
from contextlib import asynccontextmanager

from tests.bench.processes import NotStarted, started
from tests.bench.systems import TOOLS, System, free_port
from tests.bench.traffic import CHAT_MODEL, CONVERSE_MODEL

KEY = "sk-key-of-the-client"


def _installed(name, program):
    """Return the path of a program of an installed peer. Raises `NotStarted` if it is not installed."""
    path, log = TOOLS / name / program, TOOLS / f"{name}.log"
    if path.exists():
        return path
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    raise NotStarted(f"not installed: {lines[-1]}" if lines else f"not installed (tests/bench/install {name})")


def _package_version(name):
    """Return the version of a Python package in the folder of an installed peer."""
    info = next((TOOLS / name).glob(f"lib/*/site-packages/{name}-*.dist-info"))
    return info.stem.rpartition("-")[2]


def _portkey_version():
    return json.loads((TOOLS / "portkey/node_modules/@portkey-ai/gateway/package.json").read_text())["version"]


@asynccontextmanager
async def _litellm(upstream, folder):
    address = f"http://127.0.0.1:{upstream}"
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "aws_region_name": "us-east-1"}
    providers = {
        CHAT_MODEL: {"model": f"openai/{CHAT_MODEL}", "api_base": f"{address}/v1", "api_key": "key"},
        CONVERSE_MODEL: {
            "model": f"bedrock/converse/{CONVERSE_MODEL}",
            "aws_bedrock_runtime_endpoint": address,
            **keys,
        },
    }
    config = {
        "model_list": [{"model_name": name, "litellm_params": values} for name, values in providers.items()],
        "general_settings": {"master_key": KEY},
        "litellm_settings": {"telemetry": False},
    }
    path, port = folder / "config.yaml", free_port()
    path.write_text(json.dumps(config))  # JSON is YAML
    command = [_installed("litellm", "bin/litellm"), "--config", path, "--port", str(port), "--host", "127.0.0.1"]
    async with started(command, folder, port=port, LITELLM_LOCAL_MODEL_COST_MAP="True") as process:
        yield process


_TENSORZERO_CONFIG = """
[gateway]
bind_address = "127.0.0.1:{port}"
observability.enabled = false
[models."{model}"]
routing = ["provider"]
[models."{model}".providers.provider]
type = "openai"
api_base = "http://127.0.0.1:{upstream}/v1/"
model_name = "{model}"
"""
_TENSORZERO_START = """
import asyncio, sys
from tensorzero import tensorzero


async def main():
    gateway = await tensorzero._start_http_gateway(
        config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=True
    )
    print(f"port {gateway.base_url.rsplit(':', 1)[1].strip('/')}", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
"""


@asynccontextmanager
async def _tensorzero(upstream, folder):
    port, config, start = free_port(), folder / "tensorzero.toml", folder / "start.py"
    config.write_text(_TENSORZERO_CONFIG.format(port=port, upstream=upstream, model=CHAT_MODEL))
    start.write_text(_TENSORZERO_START)
    command = [_installed("tensorzero", "bin/python"), start, config]
    async with started(command, folder, r"port (\d+)", OPENAI_API_KEY="key") as process:
        yield process


@asynccontextmanager
async def _portkey(upstream, folder):
    port = free_port()
    program = _installed("portkey", "node_modules/@portkey-ai/gateway/build/start-server.js")
    async with started(["node", program, f"--port={port}", "--headless"], folder, port=port) as process:
        yield process


@asynccontextmanager
async def _bedrock_access_gateway(upstream, folder):
    port, program = free_port(), _installed("bedrock-access-gateway", "venv/bin/uvicorn")
    command = [program, "api.app:app", "--app-dir", TOOLS / "bedrock-access-gateway/code/src", "--port", str(port)]
    variables = {
        "API_KEY": KEY,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": f"http://127.0.0.1:{upstream}",
    }
    async with started(command, folder, port=port, **variables) as process:
        yield process


def _authorized(_request, _upstream):
    return {"Authorization": f"Bearer {KEY}"}


def _headers_of_portkey(request, upstream):
    address = f"http://127.0.0.1:{upstream}"
    if request.model == CHAT_MODEL:
        return {
            "Authorization": f"Bearer {KEY}",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"{address}/v1",
        }
    return {
        "x-portkey-provider": "bedrock",
        "x-portkey-custom-host": address,
        "x-portkey-aws-access-key-id": "key",
        "x-portkey-aws-secret-access-key": "secret",
        "x-portkey-aws-region": "us-east-1",
    }


LITELLM = System("LiteLLM", _litellm, headers=_authorized, version=lambda: _package_version("litellm"))
TENSORZERO = System(
    "TensorZero",
    _tensorzero,
    path=lambda path: f"/openai{path}",
    model=lambda model: f"tensorzero::model_name::{model}",
    version=lambda: _package_version("tensorzero"),
)
PORTKEY = System("Portkey", _portkey, headers=_headers_of_portkey, version=_portkey_version)
BEDROCK_ACCESS_GATEWAY = System(
    "bedrock-access-gateway",
    _bedrock_access_gateway,
    path=lambda path: f"/api{path}",
    headers=_authorized,
)
