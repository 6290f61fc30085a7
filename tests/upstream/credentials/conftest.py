"""Fixtures with a simulated AWS, and a user without AWS credentials."""

import os

import pytest
from botocore.tokens import SSOTokenProvider

from gateway.testkit.aws import AwsSim
from gateway.testkit.aws_account import AwsAccount
from tests.helpers.aws import AwsHome


@pytest.fixture
async def aws():
    async with AwsSim(AwsAccount()) as sim:
        yield sim


@pytest.fixture
def home(tmp_path_factory, monkeypatch):
    """Return the folder `~/.aws` of a user without credentials, on a machine without an IAM role."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    root = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(root))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    folder = root / ".aws"
    folder.mkdir()
    # botocore reads HOME for this folder only when it is imported
    monkeypatch.setattr(SSOTokenProvider, "_SSO_TOKEN_CACHE_DIR", str(folder / "sso" / "cache"))
    return AwsHome(folder)
