"""Two lists of a simulated Bedrock's control plane: ListFoundationModels and ListInferenceProfiles.

Replies have the fields of botocore's service model of bedrock. Wrong parameters are refused as AWS refuses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs

import orjson
from aiohttp import web

from gateway.testkit.aws import REGION
from gateway.testkit.simulator import Refusal, Seen

_PROFILES: Final = "/inference-profiles"
LISTS: Final = ("/foundation-models", _PROFILES)
"""The paths of the operations ListFoundationModels and ListInferenceProfiles."""
ACCOUNT: Final = "123456789012"
_TYPES: Final = ("SYSTEM_DEFINED", "APPLICATION")
_MAX_RESULTS: Final = 1000


def model_arn(model: str, region: str = REGION) -> str:
    """Return the ARN of a foundation model."""
    return f"arn:aws:bedrock:{region}::foundation-model/{model}"


@dataclass(slots=True)
class BedrockListing:
    """The foundation models and the inference profiles in the lists of the simulated Bedrock."""

    models: list[dict[str, Any]] = field(default_factory=list)
    profiles: list[dict[str, Any]] = field(default_factory=list)
    per_page: int = _MAX_RESULTS
    """Maximum number of profiles on a page. A request may ask for fewer."""

    def add_model(
        self, model: str, *, output: Sequence[str] = ("TEXT",), inference: Sequence[str] = ("ON_DEMAND",)
    ) -> None:
        """Add a foundation model. `inference` has its inference types, such as "ON_DEMAND"."""
        self.models.append(
            {
                "modelArn": model_arn(model),
                "modelId": model,
                "modelName": model,
                "providerName": model.partition(".")[0],
                "inputModalities": ["TEXT"],
                "outputModalities": list(output),
                "responseStreamingSupported": True,
                "customizationsSupported": [],
                "inferenceTypesSupported": list(inference),
                "modelLifecycle": {"status": "ACTIVE"},
            }
        )

    def add_profile(self, id_: str, models: Sequence[str], *, kind: str = "SYSTEM_DEFINED") -> str:
        """Add an inference profile for the foundation models with these ARNs. Return the profile's ARN."""
        place = "inference-profile" if kind == "SYSTEM_DEFINED" else "application-inference-profile"
        arn = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:{place}/{id_}"
        self.profiles.append(
            {
                "inferenceProfileName": id_,
                "inferenceProfileArn": arn,
                "inferenceProfileId": id_,
                "models": [{"modelArn": model} for model in models],
                "status": "ACTIVE",
                "type": kind,
            }
        )
        return arn

    def answer(self, seen: Seen) -> web.Response:
        """Return the reply to a request for one of `LISTS`. Raises `Refusal` if the request is wrong."""
        query = {name: values[0] for name, values in parse_qs(seen.query, strict_parsing=bool(seen.query)).items()}
        return _json(self._page(query) if seen.path == _PROFILES else {"modelSummaries": self.models})

    def _page(self, query: dict[str, str]) -> dict[str, Any]:
        kind, most = query.get("type", _TYPES[0]), query.get("maxResults", "100")
        if kind not in _TYPES:
            raise _invalid(f"Value '{kind}' at 'typeEquals' failed to satisfy constraint: Member must satisfy enum")
        if not most.isdecimal() or not 1 <= int(most) <= _MAX_RESULTS:
            raise _invalid(f"Value '{most}' at 'maxResults' failed to satisfy constraint: between 1 and {_MAX_RESULTS}")
        start = query.get("nextToken", "0")
        if not start.isdecimal():
            raise _invalid("The provided nextToken is invalid.")
        fitting = [profile for profile in self.profiles if profile["type"] == kind]
        end = int(start) + min(int(most), self.per_page)
        page = {"inferenceProfileSummaries": fitting[int(start) : end]}
        return page | ({"nextToken": str(end)} if end < len(fitting) else {})


def _json(body: dict[str, Any]) -> web.Response:
    headers = {"content-type": "application/json", "x-amzn-requestid": "simulated"}
    return web.Response(body=orjson.dumps(body), headers=headers)


def _invalid(message: str) -> Refusal:
    return Refusal(400, {"message": message}, {"x-amzn-errortype": "ValidationException"})
