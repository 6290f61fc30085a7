"""Fixtures: a gateway in front of the simulated Bedrock, and an environment without the developer's own client
settings.
"""

import os

import pytest

from tests.helpers.gateway import bedrock, gate

VENDORS = ("AWS_", "ANTHROPIC_", "CLAUDE", "GEMINI_", "GOOGLE_", "OPENAI_")


@pytest.fixture(autouse=True)
def _nothing_from_the_environment(monkeypatch, tmp_path):
    """Remove keys and regions from the environment, so that the clients do not use the developer's own."""
    for name in [name for name in os.environ if name.startswith(VENDORS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    # the SDKs read a machine's certificates for each client, which takes longer than a call
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    (tmp_path / "certificates").mkdir()
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "certificates"))


@pytest.fixture
async def gw(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"bedrock": bedrock(bedrock_sim.url)}) as running:
        yield running
