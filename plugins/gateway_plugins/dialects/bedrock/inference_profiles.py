"""Bedrock's ListInferenceProfiles and GetInferenceProfile. Claude Code and LangChain use them to find models.

- Each profile has its foundation model in `models`. From the ARN there, clients learn which model is behind an
  application profile, and thus which parameters it accepts.
- A model whose name is no ARN gets an ARN without region and account. Calls accept this ARN too (`Catalog.find`).

Source: botocore's service model of bedrock (InferenceProfileSummary).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.contract.capabilities import base_id, geo
from gateway.contract.flag import ListedModel, ModelList

LISTS: Final = tuple(
    # clients whose base URL ends with a slash send two slashes
    ModelList(f"{prefix}/inference-profiles")
    for prefix in ("/bedrock", "", "/bedrock/", "/")
)
_FLAGS: Final = frozenset({"bedrock_converse", "bedrock_model_invoke"})
_ARN: Final = re.compile(r"arn:(aws[a-z-]*):bedrock:([a-z0-9-]*):[0-9]*:([a-z-]+)/(.+)")
"""Pattern for the ARN of a model. Its groups are the partition, the region, the type of the model and its id."""
_APPLICATION: Final = "application-inference-profile"


def model_list(models: Sequence[ListedModel], query: Mapping[str, str]) -> bytes:
    """Return the models on Bedrock as inference profiles.

    If `query` names a type (`SYSTEM_DEFINED` or `APPLICATION`), only profiles of this type are in the list.
    """
    profiles = [_profile(model) for model in models if not model.alias_of and not _FLAGS.isdisjoint(model.flags)]
    kind = query.get("type")
    return orjson.dumps(
        {"inferenceProfileSummaries": [profile for profile in profiles if kind in (None, profile["type"])]}
    )


def model_entry(model: ListedModel) -> bytes:
    return orjson.dumps(_profile(model))


def _profile(model: ListedModel) -> dict[str, Any]:
    """Return an InferenceProfileSummary with the required fields (botocore's service model)."""
    partition = "aws-us-gov" if geo(model.name) == "us-gov" else "aws"
    is_arn, arn = model.name.startswith("arn:"), _ARN.fullmatch(model.name)
    is_application = arn is not None and arn[3] == _APPLICATION
    name = arn[4] if arn and arn[3].endswith("inference-profile") else model.name
    return {
        "inferenceProfileName": name,
        "inferenceProfileId": name,
        "inferenceProfileArn": model.name if is_arn else f"arn:{partition}:bedrock:::inference-profile/{model.name}",
        "description": model.description or model.provider,
        "models": _models(model.base or model.name, arn[1] if arn else partition, arn[2] if arn else ""),
        "status": "ACTIVE",
        "type": "APPLICATION" if is_application else "SYSTEM_DEFINED",
    }


def _models(name: str, partition: str, region: str) -> list[dict[str, str]]:
    """Return the field `models` of a profile: a list with the foundation model's ARN.

    Return [] if the configuration does not name the foundation model. `region` is "" if it is unknown.
    """
    model = base_id(name)
    return (
        []
        if model.startswith("arn:")
        else [{"modelArn": f"arn:{partition}:bedrock:{region}::foundation-model/{model}"}]
    )
