"""Facts about a compatibility flag (the plugin of one API format) that depend on no call, such as its routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.contract.client_api import ClientApi
from gateway.contract.messages import Route
from gateway.contract.model_lists import ListedModel, ModelList, ModelSearch
from gateway.contract.samples import Sample
from gateway.contract.settings import Settings


class FlagFacts(Protocol):
    """The functions and values of a compatibility flag that do not depend on a call. `Flag` has the others.

    >>> api = 1
    >>> dialects = ("acme_text",)
    >>> routes = (Route("POST", "/acme/v1/text", "generate"),)
    """

    @property
    def api(self) -> int:
        """The major version of the contract for which the compatibility flag is written.

        >>> api = 1
        """

    @property
    def dialects(self) -> tuple[str, ...]:
        """The dialects (formats of bodies) of requests from clients and of requests to providers.

        >>> dialects = ("acme_text",)
        """

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes for clients; () for a compatibility flag that is used for providers only.

        >>> routes = (Route("POST", "/acme/v1/text", "generate"),)
        """

    @property
    def accepts(self) -> tuple[tuple[str, str], ...]:
        """Requests of other API formats that providers of this flag accept unchanged: pairs of format and operation.

        >>> accepts = (("openai_chat", "generate"),)
        """

    @property
    def slow_marks(self) -> tuple[bytes, ...]:
        """Byte strings by which the gateway recognises a body for which `build` takes long.

        `build` takes long if it must decode more than a few small fields of the body. If a large body contains one of
        these byte strings, `build` runs in a worker process. This applies to requests without translation.

        >>> slow_marks = (b'"document"',)
        """

    @property
    def has_cache_marks(self) -> bool:
        """Whether requests of this API can have marks that ask for prompt caching, such as Anthropic's `cache_control`.

        If it is true, a client that sets no marks has chosen not to cache. So `"auto_cache": true` does not change the
        requests of this API.

        >>> has_cache_marks = True
        """

    @property
    def content_type(self) -> str:
        """The content type of a streamed reply to a client.

        >>> content_type = "application/x-ndjson"
        """

    @property
    def passed_headers(self) -> tuple[str, ...]:
        """Names, in lower case, of reply headers that the gateway passes on from the provider to the client.

        Clients always get the headers that the gateway knows, such as `retry-after` and `request-id`. All others are
        left out, because some describe the gateway's account at the provider.

        >>> passed_headers = ("acme-request-id",)
        """

    @property
    def price_list(self) -> str:
        """The price list, such as "openai", of a provider for which the configuration names no list.

        It is "" if any company may run providers of this flag, so that no list can be assumed. It is `BY_REGION` if the
        configuration must name the list.

        >>> price_list = "openai"
        """

    @property
    def Options(self) -> type[Settings]:  # noqa: N802 (a class of the module)
        """The class of the options that the configuration may set for a provider with this compatibility flag.

        The configuration has them in the provider's `options`, under the flag's name. The hooks get them as
        `Target.options`. A flag without options has the base class `Settings`.

        >>> class Options(Settings):
        ...     tier: str = "economy"
        >>> Options(tier="express").tier
        'express'
        """

    def base_url_fault(self, url: str) -> str:
        """Return what is wrong with a provider's base URL, and what would be right; "" if nothing is wrong.

        The check of the configuration shows this text as a warning.

        >>> def base_url_fault(url):
        ...     return 'end the address before "/acme"' if url.endswith("/acme") else ""
        >>> base_url_fault("https://api.example.com/acme")
        'end the address before "/acme"'
        """

    @property
    def client_api(self) -> ClientApi | None:
        """Facts about the API's clients, with which the gateway explains a wrong path; None if there are no facts.

        >>> client_api = ClientApi(bases=("/acme/v1",), setting="ACME_BASE_URL")
        """

    @property
    def model_lists(self) -> tuple[ModelList, ...]:
        """The paths at which clients of this API fetch lists of models; () if there are none.

        >>> model_lists = (ModelList("/acme/v1/models"),)
        """

    def model_list(self, models: Sequence[ListedModel], query: Mapping[str, str]) -> bytes:
        """Return the JSON of a list of models. `query` has the parameters of the request.

        >>> def model_list(models, query):
        ...     return orjson.dumps({"models": [model.name for model in models]})
        >>> model_list([listed], {})
        b'{"models":["small"]}'
        """

    def model_entry(self, model: ListedModel) -> bytes:
        """Return the JSON of one model.

        >>> def model_entry(model):
        ...     return orjson.dumps({"name": model.name, "owner": model.provider})
        >>> model_entry(listed)
        b'{"name":"small","owner":"acme"}'
        """

    def discover_models(self, host: str) -> ModelSearch | None:
        """Return a search for the models of a provider; None if the API has no list of models.

        The gateway calls this for providers with `"models": "discover"`, at its start, every hour and after a reload.
        `host` is the host in the provider's base URL, in lower case. The generator raises `BadFrame` if a reply is no
        list. The checks of a configuration call the function without running the generator.

        >>> def discover_models(host):
        ...     return ModelSearch(pages())
        >>> def pages():
        ...     reply = yield UpstreamRequest("GET", "/acme/models", b"")
        ...     return [DiscoveredModel(name) for name in json_api.json_object(reply.body)["names"]]
        >>> search = discover_models("api.example.com")
        >>> next(search.pages).path
        '/acme/models'
        """

    def samples(self) -> Sequence[Sample]:
        """Return samples of requests and replies, with which `irisgate plugins check NAME` tests the flag.

        A running gateway does not call this function.

        >>> def samples():
        ...     return [Sample(request=b'{"model": "small", "prompt": "hi"}', whole=b'{"text": "hello"}')]
        >>> len(samples())
        1
        """
