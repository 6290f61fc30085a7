"""Simulated AWS services that issue credentials: STS, SSO, the instance metadata service of EC2, and the credentials
endpoint of a container.

- All services share one port, which is possible because their paths differ. `environment` returns the environment
  variables that lead botocore to this port.
- Every request is checked: its signature (`aws_account.py`), the parameters of AssumeRole, and its tokens.

Sources: botocore's service models of sts and sso; "Use IMDSv2" in the user guide of EC2.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import orjson
from aiohttp import web

from gateway.testkit.aws_account import AccessKey, AwsAccount, Unauthorized
from gateway.testkit.simulator import Refusal, Seen, Simulator

REGION: Final = "us-east-1"
_NAME: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_TAG: Final = re.compile(r"[\w .:/=+@-]{0,256}")
_MAX_TAGS: Final = 50
_STS_NAMES: Final[Mapping[str, str]] = {
    # exception of bedrock-runtime: code of STS
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "ExpiredTokenException": "ExpiredToken",
    "InvalidSignatureException": "SignatureDoesNotMatch",
}
_METADATA: Final = "/latest/meta-data/iam/security-credentials/"
_ROLE_NAME: Final = "instance-role"


@dataclass(frozen=True, slots=True)
class Role:
    """A role and its trust policy."""

    external_id: str = ""
    """The external id that the policy demands. It is "" if no external id is needed."""
    allows_tags: bool = True
    """Whether the policy allows sts:TagSession and sts:SetSourceIdentity."""
    web_identity: str = ""
    """The token that AssumeRoleWithWebIdentity accepts. It is "" if the policy does not allow the action."""


class AwsSim(Simulator):
    """Simulated AWS services that issue credentials, such as STS. Each credential is valid for `seconds`."""

    def __init__(self, account: AwsAccount, seconds: float = 3600) -> None:
        super().__init__()
        self.account = account
        self.seconds = seconds
        self.roles: dict[str, Role] = {}
        """The roles of the account, by ARN."""
        self.sso_token = secrets.token_urlsafe(20)
        """The access token of a user who has run `aws sso login`."""
        self.container_token = secrets.token_urlsafe(20)
        self.down = False
        """Whether every request is answered with 503."""
        self._imds_token = secrets.token_urlsafe(20)

    def environment(self, *services: str) -> dict[str, str]:
        """Return environment variables that make botocore send the requests for these services to this simulator.

        Each of `services` is `sts`, `sso`, `metadata` or `container`.
        """
        settings = {
            "sts": {"AWS_ENDPOINT_URL_STS": self.url},
            "sso": {"AWS_ENDPOINT_URL_SSO": self.url},
            "metadata": {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url},
            "container": {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}/container",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": self.container_token,
            },
        }
        return {name: value for service in services for name, value in settings[service].items()}

    def failure(self, name: str, message: str) -> Refusal:
        return Refusal(400, {"__type": name, "message": message})

    async def respond(self, seen: Seen, _request: web.Request) -> web.StreamResponse:
        headers = {"date": self.account.date}
        if self.down:
            return web.Response(status=503, headers=headers)
        match seen.method, seen.path:
            case "POST", "/":
                response = self._sts(seen)
            case "GET", "/federation/credentials":
                response = self._sso(seen)
            case "GET", "/container":
                response = self._container(seen)
            case _:
                response = self._metadata(seen)
        response.headers.update(headers)
        return response

    def _sts(self, seen: Seen) -> web.Response:
        form = {name: values[0] for name, values in parse_qs(seen.body.decode(), keep_blank_values=True).items()}
        action = form.get("Action", "")
        role = self.roles.get(form.get("RoleArn", ""))
        try:
            if action == "AssumeRole":
                self.account.judge(seen, "sts", REGION)
                is_allowed = (
                    role is not None and form.get("ExternalId", "") == role.external_id and _may_tag(role, form)
                )
            else:
                is_allowed = role is not None and form.get("WebIdentityToken") == role.web_identity != ""
        except Unauthorized as refusal:
            return _sts_error(403, _STS_NAMES[refusal.name], refusal.message)
        if fault := _fault(action, form):
            return _sts_error(400, "ValidationError", fault)
        if not is_allowed:
            words = f"User is not authorized to perform: sts:{action} on {form['RoleArn']}"
            return _sts_error(403, "AccessDenied", words)
        key = self.account.issue(min(self.seconds, float(form.get("DurationSeconds", 3600))), **form)
        members = {
            "AccessKeyId": key.id,
            "SecretAccessKey": key.secret,
            "SessionToken": key.token,
            "Expiration": _rfc3339(key),
        }
        inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in members.items())
        xml = (
            f"<{action}Response><{action}Result><Credentials>{inner}</Credentials></{action}Result></{action}Response>"
        )
        return web.Response(text=xml, content_type="text/xml")

    def _sso(self, seen: Seen) -> web.Response:
        query = parse_qs(seen.query)
        if seen.headers.get("x-amz-sso_bearer_token") != self.sso_token:
            raise Refusal(
                401, {"message": "Session token not found or invalid"}, {"x-amzn-errortype": "UnauthorizedException"}
            )
        if not query.keys() >= {"role_name", "account_id"}:
            raise Refusal(400, {"message": "no role"}, {"x-amzn-errortype": "InvalidRequestException"})
        key = self.account.issue(self.seconds)
        members = {
            "accessKeyId": key.id, "secretAccessKey": key.secret, "sessionToken": key.token,
            "expiration": round(key.expires_at * 1000),
        }  # fmt: skip
        return _json({"roleCredentials": members})

    def _container(self, seen: Seen) -> web.Response:
        if seen.headers.get("authorization") != self.container_token:
            raise Refusal(401, {"message": "the token is wrong"})
        return _json(_members(self.account.issue(self.seconds)))

    def _metadata(self, seen: Seen) -> web.Response:
        """Return the reply of the instance's metadata service, version 2."""
        if (seen.method, seen.path) == ("PUT", "/latest/api/token"):
            if "x-aws-ec2-metadata-token-ttl-seconds" not in seen.headers:
                raise Refusal(400, {"message": "no ttl"})
            return web.Response(text=self._imds_token)
        if seen.headers.get("x-aws-ec2-metadata-token") != self._imds_token:
            raise Refusal(401, {"message": "no token"})
        if seen.path == _METADATA:
            return web.Response(text=_ROLE_NAME)
        if seen.path == _METADATA + _ROLE_NAME:
            return _json({"Code": "Success", "Type": "AWS-HMAC", **_members(self.account.issue(self.seconds))})
        raise Refusal(404, {"message": "there is no such metadata"})


def _may_tag(role: Role, form: Mapping[str, str]) -> bool:
    return role.allows_tags or ("SourceIdentity" not in form and "Tags.member.1.Key" not in form)


def _fault(action: str, form: Mapping[str, str]) -> str:
    """Return AWS's message about the first wrong parameter of an STS action, or "" if all parameters are right."""
    if action not in {"AssumeRole", "AssumeRoleWithWebIdentity"}:
        return f"Could not find operation {action}"
    for name in ("RoleSessionName", "SourceIdentity"):
        if (name in form or name == "RoleSessionName") and not _NAME.fullmatch(form.get(name, "")):
            return f"Value '{form.get(name)}' at '{name}' failed to satisfy constraint: [\\w+=,.@-]*, length 2 to 64"
    if not 900 <= int(form.get("DurationSeconds", 3600)) <= 43200:
        return "The requested DurationSeconds is not between 900 and 43200"
    keys = [value for name, value in form.items() if name.startswith("Tags.member.") and name.endswith(".Key")]
    values = [value for name, value in form.items() if name.startswith("Tags.member.") and name.endswith(".Value")]
    if len(keys) > _MAX_TAGS or len(set(keys)) < len(keys) or not all(map(_TAG.fullmatch, keys + values)):
        return "1 validation error detected at 'tags'"
    return ""


def _members(key: AccessKey) -> dict[str, Any]:
    return {
        "AccessKeyId": key.id, "SecretAccessKey": key.secret, "Token": key.token, "Expiration": _rfc3339(key),
        "LastUpdated": "2026-01-01T00:00:00Z",
    }  # fmt: skip


def _rfc3339(key: AccessKey) -> str:
    return datetime.fromtimestamp(key.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(value: Any) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")


def _sts_error(status: int, code: str, message: str) -> web.Response:
    xml = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        "<RequestId>simulated</RequestId></ErrorResponse>"
    )
    return web.Response(status=status, text=xml, content_type="text/xml")
