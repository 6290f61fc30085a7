"""Bedrock's ListInferenceProfiles and GetInferenceProfile. Claude Code uses them to find models.

Source: botocore's service model of bedrock (InferenceProfileSummary).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.contract.flag import ListedModel, ModelList

LISTS: Final = tuple(
    # clients whose base URL ends with a slash send two slashes
    ModelList(f"{prefix}/inference-profiles")
    for prefix in ("/bedrock", "", "/bedrock/", "/")
)
_FLAGS: Final = frozenset({"bedrock_converse", "bedrock_model_invoke"})
_TYPE: Final = "SYSTEM_DEFINED"


def model_list(models: Sequence[ListedModel], query: Mapping[str, str]) -> bytes:
    """Return the models on Bedrock as inference profiles.

    The list is empty if `query` names another type than `SYSTEM_DEFINED`.
    """
    of_type = query.get("type", _TYPE) == _TYPE
    profiles = [_profile(model) for model in models if of_type and _is_profile(model)]
    return orjson.dumps({"inferenceProfileSummaries": profiles})


def model_entry(model: ListedModel) -> bytes:
    return orjson.dumps(_profile(model))


def _is_profile(model: ListedModel) -> bool:
    return not model.alias_of and not _FLAGS.isdisjoint(model.flags)


def _profile(model: ListedModel) -> dict[str, Any]:
    """Return an InferenceProfileSummary with the required fields (botocore's service model)."""
    arn = model.name if model.name.startswith("arn:") else f"arn:aws:bedrock:::inference-profile/{model.name}"
    return {
        "inferenceProfileName": model.name,
        "inferenceProfileId": model.name,
        "inferenceProfileArn": arn,
        "description": model.description or model.provider,
        "models": [],
        "status": "ACTIVE",
        "type": _TYPE,
    }
