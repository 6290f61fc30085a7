"""`irisgate demo`: the gateway with a simulated Bedrock as its provider, or with the real Bedrock if `--real` is given.

The configuration is a file in the state folder. A user can edit it while the demo runs, and the next call uses the
change, as the README describes.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent
from time import time
from typing import Any, Final, NamedTuple

import orjson

from gateway.config.load import load
from gateway.config.model import Config
from gateway.config.server import Listener
from gateway.contract.registry import Registry
from gateway.money.prices.table import Prices
from gateway.process.output import say
from gateway.process.sample_month import HEADER, PEOPLE, SECOND, sample_calls
from gateway.process.sample_quotas import DEFINITIONS, SampleCharges, charged_to
from gateway.process.serve import CannotStart, Options, serve
from gateway.process.sockets import require_free
from gateway.process.stores import database_path
from gateway.store.base import StoreFailed
from gateway.store.journal import require_unlocked
from gateway.store.sample import fill_sample, is_sample
from gateway.telemetry.log import configure
from gateway.testkit.bedrock import BedrockSim

CLAUDE: Final = (
    "anthropic.claude-haiku-4-5-20251001-v1:0",
    "anthropic.claude-sonnet-4-5-20250929-v1:0",
    "anthropic.claude-opus-4-5-20251101-v1:0",
    "anthropic.claude-opus-4-6-v1",
)
NOVA: Final = ("amazon.nova-micro-v1:0", "amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0")


class Places(NamedTuple):
    """A group of AWS regions, the prefixes of its inference profiles, and the price list that its regions share."""

    region: str
    """The prefix of the region names, such as `eu-`."""
    claude: str
    """The prefix of the inference profiles for Claude 4.5 and later."""
    nova: str
    """The prefix of the inference profiles for Nova. It is "" if the demo calls Nova without a profile in these
    regions."""
    cost_basis: str


PLACES: Final = (
    Places("us-gov-", "us-gov", "", "bedrock-us-gov"),
    Places("us-", "us", "us", "bedrock-us"),
    Places("eu-", "eu", "eu", "bedrock-eu"),
    Places("ap-northeast-1", "jp", "apac", "bedrock-ap"),
    Places("ap-southeast-2", "au", "apac", "bedrock-ap"),
    Places("ap-", "global", "apac", "bedrock-ap"),
    Places("ca-", "ca", "", "bedrock"),
    Places("", "global", "", "bedrock"),
)
"""Groups of AWS regions. The first group that matches a region's name is used, so the most specific ones come first."""

_SIMULATED_KEY: Final = "demo-key"
_PORTS_TRIED: Final = 50


def demo(registry: Registry, *, state: Path, listen: Listener | None, real: bool, sample: bool = False) -> int:
    """Run the demo until it is stopped, and return the exit status.

    If `sample` is True, a new store first gets a month of invented calls.

    If `real` is True, the demo calls the real Bedrock, which needs environment variables. Otherwise it calls a
    simulated Bedrock, which needs botocore. If the variables or botocore are missing, print one line to standard error
    and return 2.
    """
    missing = [name for name in ("AWS_BEARER_TOKEN_BEDROCK", "AWS_REGION") if real and not os.environ.get(name)]
    if missing:
        print(f"irisgate demo --real: set {' and '.join(missing)}", file=sys.stderr)  # noqa: T201 (the command line)
        return 2
    if not real and find_spec("botocore") is None:
        print("irisgate demo: needs botocore's model of Bedrock: pip install 'irisgate[testkit]'", file=sys.stderr)  # noqa: T201 (the command line)
        return 2
    asyncio.run(_demo(registry, state, _free(listen or Listener()), real=real, sample=sample))
    return 0


async def _demo(registry: Registry, state: Path, listener: Listener, *, real: bool, sample: bool) -> None:
    async with AsyncExitStack() as stack:
        region = os.environ["AWS_REGION"] if real else "us-east-1"
        models, cost_basis = model_names(region)
        if real:
            url, key = f"https://bedrock-runtime.{region}.amazonaws.com", "env:AWS_BEARER_TOKEN_BEDROCK"
        else:
            simulated = await stack.enter_async_context(BedrockSim(keys={_SIMULATED_KEY}))
            url, key = simulated.url, _SIMULATED_KEY
        path = state / "demo.hujson"
        try:
            # checked before the file is written, because a demo that runs in this folder would load the new file
            require_unlocked(state / "journal")
            path.write_text(configuration(url, key, models, cost_basis, sample=sample))
            path.chmod(0o600)
            loaded = load(path, plugins=registry.known)
            if sample:
                _fill(database_path(loaded.config, state), loaded.config)
        except OSError as error:
            raise CannotStart(f"{path}: {error.strerror}") from None
        except StoreFailed as error:
            raise CannotStart(str(error)) from None
        where = f"the real Amazon Bedrock in {region}: calls cost money" if real else "a simulated Amazon Bedrock"
        await serve(
            path,
            loaded,
            registry,
            state=state,
            log=configure(),
            options=Options(
                listener=listener,
                hints=lambda ours: _hints(ours, models[0], models[1], where, path),
                sample=not real,
            ),
        )


def _fill(path: Path, config: Config) -> None:
    """Write the sample calls into the store at `path`, unless it has them already.

    Raises `StoreFailed` if the store has calls that are not sample calls.
    """
    if is_sample(path):
        return
    say("writing a month of sample calls ...")
    calls = sample_calls(config.providers["bedrock"], Prices.load(), now=time())
    charges = SampleCharges(config.quotas, {person.login: person.quota for person in PEOPLE})
    written = fill_sample(path, charges.entries(calls))
    say(f"{written:,} sample calls are in {path}, which only the demo uses")


def model_names(region: str) -> tuple[list[str], str]:
    """Return the names of the demo's models in an AWS region, and the name of the price list for that region."""
    place = next(place for place in PLACES if region.startswith(place.region))
    models = [f"{place.claude}.{model}" for model in CLAUDE]
    models += [f"{place.nova}.{model}" if place.nova else model for model in NOVA]
    return models, place.cost_basis


def configuration(url: str, key: str, models: list[str], cost_basis: str, *, sample: bool) -> str:
    """Return the text of the demo's configuration. With `sample`, it also has the provider, grants and quotas of the
    sample calls.
    """
    provider = {
        "baseurl": url,
        "apikey": key,
        "authorization": "bearer",
        "models": models,
        "cost_basis": cost_basis,
        "compatibility": {"bedrock_model_invoke": True, "bedrock_converse": True},
    }
    capabilities: list[dict[str, Any]] = [{"role": "admin"}, {"models": "**"}, {"read_metrics": True}]
    grant = {"src": ["(loopback)"], "app": {"tailscale.com/cap/aperture": capabilities}}
    document: dict[str, Any] = {"providers": {"bedrock": provider}, "grants": [grant]}
    if sample:
        capabilities.append({"filterable_headers": "*"})
        document["providers"][SECOND] = {**provider, "name": "Bedrock in another region", "preference": -1}
        document |= {"grants": [grant, *_sample_grants()], "quotas": DEFINITIONS, "database": {"filterable": [HEADER]}}
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
    return f"// Written by `irisgate demo` at each start; a change is taken over while it runs.\n{text}\n"


def _sample_grants() -> list[dict[str, Any]]:
    """Return a grant for each quota. It allows the simulated people who share this quota to use all models."""
    logins: dict[str, list[str]] = {}
    for person in PEOPLE:
        logins.setdefault(person.quota, []).append(person.login)
    return [
        {
            "src": some,
            "app": {"tailscale.com/cap/aperture": [{"role": "user"}, {"models": "**", "quotas": charged_to(quota)}]},
        }
        for quota, some in logins.items()
    ]


def _free(listener: Listener) -> Listener:
    """Return the listener with the first free port, counted from its own port upwards.

    If none of `_PORTS_TRIED` ports is free, the listener is returned unchanged.
    """
    for port in range(listener.port, min(listener.port + _PORTS_TRIED, 65536)):
        with suppress(OSError):
            require_free(replace(listener, port=port))
            return replace(listener, port=port)
    return listener


def _hints(url: str, model: str, agent_model: str, where: str, config: Path) -> str:
    return dedent(
        f"""

        Irisgate in front of {where}.

        Try it:
          curl {url}/v1/chat/completions \\
            -H "Content-Type: application/json" \\
            -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "hello"}}]}}'

        Claude Code:
          CLAUDE_CODE_USE_BEDROCK=1 CLAUDE_CODE_SKIP_BEDROCK_AUTH=1 AWS_REGION=us-east-1 \\
            ANTHROPIC_BEDROCK_BASE_URL={url}/bedrock ANTHROPIC_MODEL={agent_model} claude
        boto3:
          boto3.client("bedrock-runtime", endpoint_url="{url}/bedrock", region_name="us-east-1",
                       aws_access_key_id="-", aws_secret_access_key="-")
        OpenAI SDK:
          openai.OpenAI(base_url="{url}/v1", api_key="-")

        Pages:   {url}/ui/
        Config:  {config}
        """
    ).rstrip()
