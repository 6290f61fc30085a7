"""Signatures by botocore, for comparison with the gateway's own signer, and a home folder with AWS credentials."""

import base64
import hashlib
import json
from contextlib import contextmanager
from datetime import UTC, datetime
from time import time

from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.helpers.gateway import bedrock


@contextmanager
def botocores_clock(at):
    """Let botocore sign at the Unix time `at`."""
    usual = auth.get_current_datetime
    auth.get_current_datetime = lambda: datetime.fromtimestamp(at, UTC)
    try:
        yield
    finally:
        auth.get_current_datetime = usual


def _credentials(signer):
    own = signer.credentials
    return Credentials(own.access_key_id, own.secret_access_key, own.session_token or None)


def botocores_headers(signer, request, body, at):
    """Return the headers that botocore adds when it signs `request` with the body `body` at the Unix time `at`."""
    url = f"https://{request.host}{request.path}" + (f"?{request.query}" if request.query else "")
    made = AWSRequest(request.method, url, {**request.headers, "host": request.host}, body)
    with botocores_clock(at):
        auth.SigV4Auth(_credentials(signer), signer.service, signer.region).add_auth(made)
    return {
        name.lower(): value
        for name, value in made.headers.items()
        if name.lower() in {"authorization", "x-amz-date", "x-amz-security-token"}
    }


def botocores_api_key(signer, at, seconds):
    """Return a short-term Bedrock API key, made with botocore's signer.

    The format is that of aws/aws-bedrock-token-generator-python.
    """
    request = AWSRequest(
        "POST",
        "https://bedrock.amazonaws.com/",
        {"host": "bedrock.amazonaws.com"},
        params={"Action": "CallWithBearerToken"},
    )
    with botocores_clock(at):
        auth.SigV4QueryAuth(_credentials(signer), signer.service, signer.region, expires=seconds).add_auth(request)
    url = request.url.removeprefix("https://") + "&Version=1"
    return "bedrock-api-key-" + base64.b64encode(url.encode()).decode()


ROLE = "arn:aws:iam::123456789012:role/bedrock"


def signed(url, **more):
    """Return the configuration of a provider: the simulated Bedrock at `url`, with requests signed by the gateway."""
    settings = {"region": "us-east-1", **more.pop("aws", {})}
    return bedrock(url, **{"apikey": "", "authorization": "sigv4", "aws": settings, **more})


class AwsHome:
    """The folder `~/.aws` of the gateway's user, without any credentials at first."""

    def __init__(self, folder):
        self.folder = folder

    def credentials(self, text):
        (self.folder / "credentials").write_text(text)

    def config(self, text):
        (self.folder / "config").write_text(text)

    def sso_login(self, session, token, seconds=3600):
        """Write the token that `aws sso login` writes."""
        cache = self.folder / "sso" / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        expires_at = datetime.fromtimestamp(time() + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        value = {"accessToken": token, "expiresAt": expires_at, "startUrl": "https://corp.awsapps.com/start"}
        (cache / f"{hashlib.sha1(session.encode()).hexdigest()}.json").write_text(json.dumps(value))
