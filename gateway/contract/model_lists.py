"""Lists of models in the formats of the clients' APIs. Many clients fetch such a list before their first request.

- A compatibility flag (the plugin of one API format) declares the paths of its lists (`ModelList`). Its hooks
  `model_list` and `model_entry` write the JSON.
- The default format has the fields of OpenAI's list and of Anthropic's list, so that the SDKs of both can read it.
- The gateway selects the models and aliases that the caller may use.
- The hook `discover_models` requests the list of a provider's models (`ModelSearch`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.contract.messages import StepResponse, UpstreamRequest

RELEASED: Final = "2026-01-01T00:00:00Z"
"""The release date of every model in the lists. The formats require a date, but the gateway knows none."""
_RELEASED_UNIX: Final = 1767225600


@dataclass(frozen=True, slots=True)
class ModelList:
    """A list of models that clients can request at `path`. At `path/NAME`, they can request the entry of one model.

    >>> ModelList("/acme/v1/models", headers=("x-acme-version",)).path
    '/acme/v1/models'
    """

    path: str
    headers: tuple[str, ...] = ()
    """Names of headers, in lower case, by which the gateway recognises the clients of this API.

    If several flags (plugins of API formats) have a list at the same path, a client gets the list whose `headers` are
    in its request. A client without such headers gets the list whose `headers` are ().
    """


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model or an alias that the caller may use.

    >>> listed.name, listed.endpoints
    ('small', ('/acme/v1/text',))
    """

    name: str
    provider: str
    """The provider's key in the configuration. If several providers have the model, it is the preferred one."""
    provider_name: str
    description: str
    """The provider's description in the configuration."""
    flags: frozenset[str]
    """The compatibility flags (API formats) of all providers that have the model."""
    endpoints: tuple[str, ...]
    """The paths at which clients can call the model. `{model}` in a path stands for the model's name."""
    alias_of: tuple[str, ...] = ()
    """The models of an alias, each as `provider/model`. The value is () if `name` is not an alias."""
    prices: Mapping[str, str] | None = None
    """The prices of one token in USD. The keys are those of Aperture's API. The value is None if the prices are
    unknown.
    """
    needs_own_key: bool = False
    """True if the caller must send the provider's API key."""
    max_output: int = 0
    """The maximum number of output tokens. It is 0 if it is unknown."""
    base: str = ""
    """The model's id, if `name` is an alias, or an ARN that does not contain the id. It is "" for any other name."""


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A model at one provider, which the caller may use. Its name in requests is `provider/model`, or `model`.

    >>> offered.provider, offered.model
    ('acme-eu', 'acme-1')
    """

    provider: str
    """The provider's key in the configuration."""
    model: str
    """The model's name at the provider."""
    base: str
    """The model's id. It equals `model`, unless `model` is a name without the id, such as some ARNs."""
    host: str
    """The host in the provider's base URL, in lower case."""


@dataclass(frozen=True, slots=True)
class DiscoveredModel:
    """A model in a provider's own list.

    >>> DiscoveredModel("team-a-profile", base="acme-1").base
    'acme-1'
    """

    name: str
    """The name of the model in requests."""
    base: str = ""
    """The model's id, on which price and capabilities depend. It is "" if `name` itself is the id."""


ModelPages = Generator[UpstreamRequest, StepResponse, Sequence[DiscoveredModel]]
"""A generator of requests for a provider's list of models. Each `yield` returns the reply, and the generator returns
the models."""


@dataclass(frozen=True, slots=True)
class ModelSearch:
    """A search for the models of a provider. It requests the provider's own list of models.

    >>> def pages():
    ...     reply = yield UpstreamRequest("GET", "/v1/models", b"")
    ...     return [DiscoveredModel(name) for name in json_api.json_object(reply.body)["names"]]
    >>> next(ModelSearch(pages()).pages).path
    '/v1/models'
    """

    pages: ModelPages
    """A generator that yields requests and returns the models. Each `yield` returns the successful reply to the
    request.

    An error reply ends the search, and the generator does not get this reply.
    """
    subdomain: str = ""
    """A label that replaces the first label of the provider's host in the requests of the search. If it is "", the host
    is kept.

    For example, the label `lists` turns the host `models.us.example.com` into `lists.us.example.com`. If there is a
    label, the path of the provider's base URL is not used for these requests.
    """


def model_list(models: Sequence[ListedModel]) -> bytes:
    """Return a JSON list of models with the fields of both OpenAI's and Anthropic's lists.

    >>> json_api.json_object(model_lists.model_list([listed]))["data"][0]["id"]
    'small'
    """
    listed = {
        "object": "list",
        "data": [_entry(model) for model in models],
        "has_more": False,
        "first_id": models[0].name if models else None,
        "last_id": models[-1].name if models else None,
    }
    return orjson.dumps(listed)


def model_entry(model: ListedModel) -> bytes:
    """Return the JSON of one model with the fields of both OpenAI's and Anthropic's APIs.

    >>> json_api.json_object(model_lists.model_entry(listed))["owned_by"]
    'acme'
    """
    return orjson.dumps(_entry(model))


def _entry(model: ListedModel) -> dict[str, Any]:
    """Return the JSON object of one model in a list.

    If the prices are unknown, the object has no key `pricing`, because null is not allowed.
    """
    metadata: dict[str, Any] = {
        "provider": {
            "id": model.provider,
            "name": model.provider_name,
            "description": model.description,
            # Aperture's hosted service sends a name here, and its launcher requires a name
            "upstream": model.provider,
            "requires_client_auth": model.needs_own_key,
        }
    }
    if model.alias_of:
        metadata["alias_of"] = list(model.alias_of)
    return {
        "id": model.name,
        "object": "model",
        "type": "model",
        "created": _RELEASED_UNIX,
        "created_at": RELEASED,
        "display_name": model.name,
        "owned_by": model.provider,
        "supported_endpoints": list(model.endpoints),
        "metadata": metadata,
        **({"pricing": dict(model.prices)} if model.prices is not None else {}),
    }
