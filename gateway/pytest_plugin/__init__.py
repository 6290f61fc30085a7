"""The pytest plugin for authors of plugins. pytest loads it by the entry point `irisgate`.

- The names of all fixtures and options begin with `irisgate`, so that they change no other test suite.
- Until a test asks for a fixture, nothing but pytest is imported.
- The fixtures themselves are not `async`. Some return a function whose result is used with `async with`.

For example, with pytest-asyncio:

    async def test_my_flag(irisgate_gateway, irisgate_upstream):
        async with irisgate_upstream("raw") as upstream:
            upstream.script(raw(b'{"text": "hi"}'))
            provider = {"baseurl": upstream.url, "apikey": "k", "models": ["m"], "compatibility": {"my_flag": True}}
            async with irisgate_gateway({"providers": {"mine": provider}}) as gateway:
                reply = await gateway.post("/my/v1/text", {"model": "m"})
                assert reply.status == 200
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gateway.pytest_plugin.running import RunningGateway
    from gateway.testkit.laws.check import Report
    from gateway.testkit.simulator import Simulator

REWRITE = "--irisgate-rewrite-golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("irisgate")
    group.addoption(REWRITE, action="store_true", help="write the files of irisgate_golden instead of comparing them")


@pytest.fixture
def irisgate_upstream() -> Callable[..., Simulator]:
    """Return a function that makes a simulated provider: "openai", "anthropic", "bedrock", "gemini" or "raw".

    The function takes the provider's name. Its keyword `keys` is the set of accepted API keys. Without `keys`, every
    key is accepted. The provider "raw" is for a format of your own: on every path it sends the queued replies of
    `scenarios.raw`.

    >>> async with irisgate_upstream("openai", keys={"k"}) as upstream:
    ...     upstream.script(scenarios.text("Hello"))
    ...     print(upstream.requests)
    []
    """

    def upstream(name: str, **options: Any) -> Simulator:
        from gateway.pytest_plugin.upstreams import simulator

        return simulator(name, **options)

    return upstream


@pytest.fixture
def irisgate_gateway() -> Callable[..., AbstractAsyncContextManager[RunningGateway]]:
    """Return a function that runs a gateway.

    The function takes a configuration and, optionally, a folder of plugins. The configuration needs no grants and no
    listeners. The gateway has a free port and an empty store. It stops at the end of the `async with` block.

    >>> async with irisgate_gateway({"providers": {}}) as gateway:
    ...     reply = await gateway.get("/healthz")
    ...     print(reply.status)
    200
    """

    def gateway(
        config: dict[str, Any], plugins: Path | str | None = None, **options: Any
    ) -> AbstractAsyncContextManager[RunningGateway]:
        from gateway.pytest_plugin.running import running_gateway

        return running_gateway(config, None if plugins is None else Path(plugins), **options)

    return gateway


@pytest.fixture
def irisgate_chunkings() -> Callable[[bytes], Iterator[list[bytes]]]:
    """Return a function that cuts a stream into chunks in several ways.

    The function yields a list of chunks for each of several chunk sizes.

    >>> [len(chunks) for chunks in irisgate_chunkings(b"data: {}")]
    [8, 4, 3, 2, 1]
    """
    from gateway.testkit.laws.chunks import chunkings

    return chunkings


@pytest.fixture
def irisgate_check() -> Callable[..., Report]:
    """Return a function that checks a plugin, and fails the test with a report if the plugin breaks a law.

    The laws are the rules of `irisgate plugins check NAME`. The function takes the plugin's name and the folder of its
    file. An installed plugin needs no folder.

    >>> irisgate_check("slow_calls", EXAMPLES).holds
    True
    """

    def check_plugin(name: str, plugins: Path | str | None = None) -> Report:
        from gateway.contract.registry import discover
        from gateway.testkit.laws.check import check

        report = check(name, discover(None if plugins is None else Path(plugins)))
        if not report.holds:
            pytest.fail(str(report), pytrace=False)
        return report

    return check_plugin


@pytest.fixture
def irisgate_golden(request: pytest.FixtureRequest) -> Callable[[Path, Any], None]:
    r"""Return a function that compares a value with a JSON file. Ids and times that differ between runs count as equal.

    The function takes the path and the value. With `--irisgate-rewrite-golden` it first writes the value to the file.

    >>> path = tmp_path / "reply.json"
    >>> _ = path.write_text('{\n "id": "msg_made-1",\n "text": "hi"\n}\n')
    >>> irisgate_golden(path, {"id": "msg_0123456789abcdef", "text": "hi"})
    """

    def golden(path: Path, value: Any) -> None:
        from gateway.pytest_plugin.golden import compare

        compare(path, value, rewrite=request.config.getoption(REWRITE))

    return golden
