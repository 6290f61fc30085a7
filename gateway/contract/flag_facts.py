"""The facts that a compatibility flag (the plugin of one API format) declares about its API. They are the same for
every call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.contract.client_api import ClientApi
from gateway.contract.messages import Route
from gateway.contract.model_lists import ListedModel, ModelList, ModelSearch
from gateway.contract.samples import Sample
from gateway.contract.settings import Settings


class FlagFacts(Protocol):
    """The functions and values of a compatibility flag that do not depend on a call. `Flag` has the hooks of calls.

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
        """The dialects (formats of bodies) of this API.

        >>> dialects = ("acme_text",)
        """

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes for clients. The value is () if the API format is for providers only.

        >>> routes = (Route("POST", "/acme/v1/text", "generate"),)
        """

    @property
    def accepts(self) -> tuple[tuple[str, str], ...]:
        """Requests of other API formats that the providers of this API accept unchanged.

        Each item is a pair of an API format and an operation.

        >>> accepts = (("openai_chat", "generate"),)
        """

    @property
    def slow_marks(self) -> tuple[bytes, ...]:
        """Byte strings that mark large fields in a body, which `build` decodes slowly.

        A large body with such a byte string is built in a worker process. If the request was translated, every large
        body is built in a worker process.

        >>> slow_marks = (b'"document"',)
        """

    @property
    def has_cache_marks(self) -> bool:
        """True if requests of this API can have cache marks, such as Anthropic's `cache_control`.

        Clients of such an API decide themselves what is cached. So `"auto_cache": true` adds no cache marks to their
        requests. Only `"auto_cache": "all"` does.

        >>> has_cache_marks = True
        """

    @property
    def content_type(self) -> str:
        """The content type of a streamed reply to a client.

        The default is `text/event-stream`. For another content type, put a line such as this one into the plugin's
        module:

        >>> content_type = "application/x-ndjson"
        """

    @property
    def passed_headers(self) -> tuple[str, ...]:
        """Names of headers of the provider's reply that clients get too. The names are in lower case.

        Clients always get well-known headers, such as `retry-after`. The gateway removes all other headers, because
        some describe the account at the provider.

        >>> passed_headers = ("acme-request-id",)
        """

    @property
    def price_list(self) -> str:
        """The name of the price list for providers with this API. The configuration can name another list.

        The value is "" if no list fits, because many companies offer this API at different prices. The value is
        `BY_REGION` if prices differ by region. The configuration must then name the list.

        >>> price_list = "openai"
        """

    @property
    def Options(self) -> type[Settings]:  # noqa: N802 (a class of the module)
        """The class of the options that the configuration may set for a provider with this API format. A plugin without
        options needs no such class.

        In the configuration, the options are in the provider's key `options`, under the plugin's name. Hooks get the
        options as an instance of this class, in `Target.options`.

        >>> class Options(Settings):
        ...     tier: str = "economy"
        >>> Options(tier="express").tier
        'express'
        """

    def base_url_fault(self, url: str) -> str:
        """Return a warning about a provider's wrong base URL, or "" if `url` is right.

        The warning also says how to correct the URL.

        >>> def base_url_fault(url):
        ...     return 'end the address before "/acme"' if url.endswith("/acme") else ""
        >>> base_url_fault("https://api.example.com/acme")
        'end the address before "/acme"'
        """

    @property
    def client_api(self) -> ClientApi | None:
        """Facts about the API's clients, for the error message about a wrong base URL.

        Without these facts, no such message is sent.

        >>> client_api = ClientApi(bases=("/acme/v1",), setting="ACME_BASE_URL")
        """

    @property
    def model_lists(self) -> tuple[ModelList, ...]:
        """The paths at which clients of this API fetch lists of models. The value is () if there are none.

        >>> model_lists = (ModelList("/acme/v1/models"),)
        """

    def model_list(self, models: Sequence[ListedModel], query: Mapping[str, str]) -> bytes:
        """Return the body of the reply to a client that requests a list of models, as JSON.

        `models` are the models to list. `query` has the parameters of the client's URL.

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
        """Return a search for the models of a provider. Return None if the API has no list of models.

        - The gateway searches the models of each provider with `"models": "discover"`: at its start, after a reload and
          every hour.
        - `host` is the host in the provider's base URL, in lower case.
        - The search's generator (`ModelSearch.pages`) raises `BadFrame` if a reply is no list of models.
        - The gateway also calls this function when it checks a configuration, to learn whether the API has a list.

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
        """Return requests and replies with which `irisgate plugins check NAME` tests the plugin.

        >>> def samples():
        ...     return [Sample(request=b'{"model": "small", "prompt": "hi"}', whole=b'{"text": "hello"}')]
        >>> len(samples())
        1
        """
