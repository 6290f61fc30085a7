"""The key `aws` of a provider: how the gateway gets AWS credentials, and whether they sign requests or make API keys.

The credentials themselves are not in the document. They are obtained at run time in `gateway/upstream/credentials`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from gateway.config.credentials import AssumeRole, AwsSettings
from gateway.config.document.hujson import Path
from gateway.config.model import Authorization
from gateway.config.reading import Reading
from gateway.config.section import Holds, Section
from gateway.money.quotas.definitions import TEMPLATES

MAX_TAGS: Final = 50
"""Maximum number of session tags (STS, AssumeRole)."""
_REGION: Final = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-[0-9]")
_REGION_IN_HOST: Final = re.compile(rf"(?:^|\.)(?P<region>{_REGION.pattern})\.")
_MANTLE: Final = re.compile(r"(?:^|\.)bedrock-mantle\.")
_ROLE: Final = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+", re.ASCII)
_EXTERNAL_ID: Final = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_NAME: Final = re.compile(r"[\w+=,.@-]+", re.ASCII)
_TAG_KEY: Final = re.compile(r"[\w .:/=+@-]{1,128}")
_TAG_VALUE: Final = re.compile(r"[\w .:/=+@-]{0,256}")
_TEMPLATE: Final = re.compile("|".join(TEMPLATES))


def _region(value: str) -> str:
    if value and not _REGION.fullmatch(value):
        raise ValueError(f'{json.dumps(value[:80])} is no region of AWS; write one such as "us-east-1"')
    return value


def _role(value: str) -> str:
    if not _ROLE.fullmatch(value):
        raise ValueError(
            f'{json.dumps(value[:80])} is no ARN of a role; write "arn:aws:iam::123456789012:role/bedrock"'
        )
    return value


def _external_id(value: str) -> str:
    if value and not _EXTERNAL_ID.fullmatch(value):
        raise ValueError("must be the id in the trust policy: 2 to 1224 letters, digits and characters of _+=,.@:/-")
    return value


def _session_name(value: str) -> str:
    """Return the session name. It may contain templates such as `<user>`, which `upstream/subjects.py` replaces.

    Raises `ValueError` for an invalid name.
    """
    rest = _TEMPLATE.sub("", value)
    if not (2 <= len(value) <= 64) or (rest and not _NAME.fullmatch(rest)):
        raise ValueError(
            f'{json.dumps(value[:80])} is no name; write "<user>", or 2 to 64 letters, digits and characters of _+=,.@-'
        )
    return value


def _source_identity(value: str) -> str:
    return _session_name(value) if value else value


def _tags(value: dict[str, str]) -> dict[str, str]:
    if len(value) > MAX_TAGS:
        raise ValueError(f"has {len(value)} tags; AWS takes {MAX_TAGS} at most")
    for key, text in value.items():
        if not _TAG_KEY.fullmatch(key) or key.lower().startswith("aws:"):
            raise ValueError(f'{json.dumps(key[:80])} is no key of a session tag; write one such as "user"')
        if not _TAG_VALUE.fullmatch(_TEMPLATE.sub("", text)):
            raise ValueError(f'the value of {json.dumps(key)} cannot be sent; write one such as "research" or "<user>"')
    return value


class AssumeRoleSection(Section):
    role_arn: Annotated[str, AfterValidator(_role)] = Field(
        description='The role that is assumed: "arn:aws:iam::123456789012:role/bedrock".',
        examples=['"role_arn": "arn:aws:iam::123456789012:role/bedrock"'],
    )
    external_id: Annotated[str, AfterValidator(_external_id)] = Field(
        "", description='The external id that the role\'s trust policy demands: "irisgate-prod".'
    )
    session_name: Annotated[str, AfterValidator(_session_name)] = Field(
        AssumeRole("").session_name,
        description='The name of the session, which CloudTrail shows: "<user>" is the caller\'s login.',
    )
    source_identity: Annotated[str, AfterValidator(_source_identity)] = Field(
        "",
        description="The source identity of the session, which CloudTrail also shows "
        'for roles that are assumed later: "<user>".',
    )
    session_tags: Annotated[dict[str, str], AfterValidator(_tags)] = Field(
        default_factory=dict,
        description='Tags of the session, by which AWS can split the bill: {"user": "<user>", "team": "research"}.',
    )
    duration_seconds: int = Field(
        AssumeRole("").duration_seconds,
        ge=900,
        le=43_200,
        description="Seconds for which a session is valid, such as 3600.",
    )


class AwsSection(Section):
    """The AWS credentials of a provider. They come from AWS's usual chain: the environment, a profile (also with SSO),
    a web identity, the container or the instance. Needs the extra `aws`.
    """

    region: Annotated[str, AfterValidator(_region)] = Field(
        "",
        description='The region for which requests are signed: "us-east-1". By '
        "default, it is the region in the base URL.",
    )
    profile: str = Field(
        "", description='A profile of ~/.aws/config: "bedrock". By default, the default chain is used.'
    )
    assume_role: Annotated[dict[str, Any] | None, Holds(AssumeRoleSection)] = Field(
        None,
        description='A role whose credentials are used: {"role_arn": "arn:aws:iam::123456789012:role/bedrock"}. If one '
        "of its values has `<user>` or `<node>`, each caller has a session of its own.",
    )


def read_aws(
    provider: Mapping[str, Any], authorization: Authorization, host: str, path: Path, reading: Reading
) -> AwsSettings | None:
    """Return the AWS settings of a provider, or None if the provider uses none. `path` is the path of the provider."""
    signs = authorization == "sigv4"
    if not signs and not isinstance(provider.get("aws"), dict):
        return None
    _check_use(provider, path, reading, signs=signs)
    section = reading.within(AwsSection, provider, (*path, "aws"))
    of_host = _REGION_IN_HOST.search(host)
    region = section.region or (of_host["region"] if of_host else "")
    if not region:
        message = 'the base URL names no region; write "aws": {"region": "us-east-1"}'
        reading.report.error((*path, "aws"), message)
    service = "bedrock-mantle" if _MANTLE.search(host) else AwsSettings("").service
    role = read_assume_role(section.assume_role, (*path, "aws", "assume_role"), reading)
    return AwsSettings(region, service, section.profile, role, signs)


def _check_use(provider: Mapping[str, Any], path: Path, reading: Reading, *, signs: bool) -> None:
    if find_spec("botocore") is None:
        where = (*path, "authorization") if signs else (*path, "aws")
        reading.report.error(where, "needs botocore; install irisgate[aws]")
    if provider.get("apikey"):
        use = 'requests are signed with "authorization": "sigv4"' if signs else 'keys are made from "aws"'
        reading.report.error((*path, "apikey"), f"is not sent, because {use}; leave one of the two out")


def read_assume_role(raw: dict[str, Any] | None, path: Path, reading: Reading) -> AssumeRole | None:
    """Return the role of a section `assume_role`. Return None if there is no such section, or if it has faults."""
    read = None if raw is None else reading.section(AssumeRoleSection, raw, path)
    if read is None:
        return None
    values = read.model_dump()
    return AssumeRole(**{**values, "session_tags": tuple(read.session_tags.items())})
