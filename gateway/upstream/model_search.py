"""Requests the list of models from a provider with `"models": "discover"`.

- The hook `discover_models` of a compatibility flag determines the requests.
- A request has the provider's credential and its `add_headers`, as a call has.
- If a provider has several keys, the first key is used. If the provider refuses or throttles this key, the search
  begins anew with the next one.
- The time, the number of requests, the bytes and the models of a list are limited. A list that exceeds a limit is a
  failure. It is not cut off, because callers would lose the missing models.

`discovered_models.py` keeps the lists. `process/model_refresh.py` decides when a list is requested.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import msgspec

from gateway.config.model import Provider
from gateway.contract.errors import GatewayError, PluginFailed, Problem
from gateway.contract.flag import DiscoveredModel, Head, ModelSearch, StepResponse, UpstreamRequest
from gateway.contract.hook_results import OF_SEARCH
from gateway.contract.json_api import MAX_MODEL
from gateway.contract.registry import Plugin
from gateway.telemetry.log import Logger
from gateway.upstream.client import Upstream
from gateway.upstream.credentials import keys
from gateway.upstream.credentials.live import Address, LiveCredentials, Used
from gateway.upstream.credentials.renewal import CredentialFailed
from gateway.upstream.http1.targets import base
from gateway.upstream.key_pools import is_of_key
from gateway.upstream.subdomains import at_subdomain
from gateway.upstream.subjects import Subject

R = TypeVar("R")

SEARCH_SECONDS: Final = 60.0
"""Maximum number of seconds for all requests of one search for models."""
MAX_REQUESTS: Final = 50
"""Maximum number of requests of one search for models. With pages of 1,000 models, this is enough for `MAX_MODELS`."""
MAX_BYTES: Final = 8 * 1024 * 1024
"""Maximum number of bytes of all replies. The lists of the largest resellers have less than 2 MB."""
MAX_MODELS: Final = 5000
"""Maximum number of models of a provider. The largest resellers have some hundreds."""
PARSED_HERE: Final = 256 * 1024
"""Maximum number of bytes of a reply that is parsed on the event loop. This takes about 1 ms at most."""
SHORTEST_SECRET: Final = 8
"""Minimum number of characters of a secret that is removed from messages. A shorter secret may be a part of a word."""
MAX_REASON: Final = 300
"""Maximum number of characters of the reason of a failed search, as the log and pages show it."""
_SELF: Final = Subject("irisgate", "")
"""The caller of the gateway's own requests. With `assume_role`, the credential may depend on the caller."""


class SearchFailed(Exception):
    """The error for a provider that gave no list of its models. The message has no secret."""


class _KeyFailed(SearchFailed):
    """The error for a key that the provider refuses or throttles, or that cannot be obtained. Another key may work."""


@dataclass(frozen=True, slots=True)
class _Search:
    """One search with one key of a provider."""

    provider: Provider
    key: str
    """The key's name in `apikeys`. It is "" for a provider without `apikeys`."""
    secrets: set[str]
    """Secrets that are removed from error messages, such as the provider's keys."""


class ModelSearcher(msgspec.Struct, frozen=True):
    upstream: Upstream
    live: LiveCredentials
    flags: Mapping[str, Plugin]
    """All compatibility flags (plugins of API formats), by name."""
    log: Logger

    async def models(self, provider: Provider) -> Mapping[str, str]:
        """Return a map from each name in the provider's list to the id of the underlying model. The id is "" if it is
        the same as the name.

        Raises `SearchFailed` if there is no complete list.
        """
        secrets = {provider.apikey.value, *(key.secret.value for key in provider.apikeys)}
        secrets |= {value for _, value in provider.add_headers}
        try:
            async with asyncio.timeout(SEARCH_SECONDS):
                return await self._with_any_key(provider, secrets)
        except TimeoutError:
            raise SearchFailed(f"gave no complete list within {SEARCH_SECONDS:g} seconds") from None
        except PluginFailed as error:
            raise SearchFailed(f"plugin {error.plugin} failed in {error.hook}: {error.cause} ({error.place})") from None
        except GatewayError as error:
            raise SearchFailed(_shown(error.problem.message, secrets)) from None

    async def _with_any_key(self, provider: Provider, secrets: set[str]) -> Mapping[str, str]:
        """Request the list of models with each key of the provider in turn, until a key works. Return the models in
        this list.

        Raises `SearchFailed` if no key works.
        """
        failures: dict[str, str] = {}
        for name in [key.name for key in provider.apikeys] or [""]:
            try:
                models = await self._models(_Search(provider, name, secrets))
            except _KeyFailed as failure:
                failures[name] = str(failure)
                continue
            for failed, reason in failures.items():
                self.log.warning("models.key_failed", provider=provider.id, key=failed, reason=reason, used=name)
            return models
        if len(failures) == 1:
            raise SearchFailed(*failures.values())
        each = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        raise SearchFailed(_shown(f"gave no list for any of its {len(failures)} keys: {each}", secrets))

    async def _models(self, one: _Search) -> Mapping[str, str]:
        provider = one.provider
        flag, search = self.search(provider)
        try:
            asked = at_subdomain(provider, search.subdomain) if search.subdomain else provider
        except ValueError as error:
            raise SearchFailed(str(error)) from None
        hook = flag.hooks["discover_models"]
        reply = StepResponse(200, {}, b"")
        size = sent = 0
        runs = False
        try:
            while True:
                runs = True
                wanted, is_end = await _here_or_in_thread(
                    len(reply.body), hook.advance, search.pages, reply if sent else None, OF_SEARCH
                )
                runs = False
                if is_end:
                    return checked(wanted)
                if sent == MAX_REQUESTS:
                    raise SearchFailed(f"gave no complete list within {MAX_REQUESTS} pages")
                reply = await self._reply(replace(one, provider=asked), flag, wanted, MAX_BYTES - size)
                size += len(reply.body)
                sent += 1
        finally:
            if not runs:  # a thread may still run the generator, or it has ended
                with suppress(PluginFailed):  # a fault while closing must not hide the outcome, or a cancellation
                    hook.run(search.pages.close)

    def search(self, provider: Provider) -> tuple[Plugin, ModelSearch]:
        """Return an enabled compatibility flag (plugin of an API format) that can list the provider's models, and its
        `ModelSearch`.

        If several flags return a `ModelSearch`, one with a `subdomain` is preferred: its flag knows the provider by its
        host name. Otherwise, the first one is used. Raises `SearchFailed` if no enabled flag returns a `ModelSearch`.
        """
        flags = [self.flags[name] for name in provider.flags]
        searches = [(flag, search) for flag in flags if (search := flag.discover_models(provider.host)) is not None]
        if not searches:
            raise SearchFailed("none of the enabled flags has a list of models; name the models")
        return next((each for each in searches if each[1].subdomain), searches[0])

    async def _reply(self, one: _Search, flag: Plugin, request: UpstreamRequest, most: int) -> StepResponse:
        """Send a request and return the reply. Raises `SearchFailed` if the reply is an error.

        If the provider refuses a credential that was obtained at run time, the request is sent once more with a new
        credential.
        """
        used = await self._credential(one)
        status, headers, body, problem = await self._sent(one, flag, request, used, most)
        if used is not None and problem is not None and problem.key_refused:
            one.secrets.add(used.secret)
            if await self.live.has_other(one.provider, used, headers.get("date", "")):
                used = await self._credential(one)
                status, headers, body, problem = await self._sent(one, flag, request, used, most)
        if problem is not None:
            if used is not None:
                one.secrets.add(used.secret)
            words = f"{problem.native}: {problem.message}" if problem.native else problem.message
            reason = _shown(f"{request.method} {request.path} was answered {status}: {words}", one.secrets)
            raise (_KeyFailed if is_of_key(problem) else SearchFailed)(reason)
        return StepResponse(status, headers, body)

    async def _credential(self, one: _Search) -> Used | None:
        """Return the credential if it is obtained at run time. Return None if the provider's key is in the
        configuration.

        Raises `_KeyFailed` if the credential cannot be obtained.
        """
        if one.provider.issuer_of(one.key) is None:
            return None
        try:
            return await self.live.get(one.provider, _SELF, one.key)
        except CredentialFailed as error:
            raise _KeyFailed(f"there is no valid credential: {error.message}; {error.remedy}") from None

    async def _sent(
        self, one: _Search, flag: Plugin, request: UpstreamRequest, used: Used | None, most: int
    ) -> tuple[int, Mapping[str, str], bytes, Problem | None]:
        """Send a request. Return the status, the headers and the body of the reply, and the error that it reports, or
        None.

        `used` is the credential, or None if the provider's key is in the configuration. `most` is the maximum size of
        the body in bytes.
        """
        provider = one.provider
        secret = next((key.secret for key in provider.apikeys if key.name == one.key), None)
        added = {name.lower(): value for name, value in provider.add_headers}
        added |= keys.headers(provider, {}, secret)
        if used is not None and provider.auth_mode != "none":
            where = base(provider.baseurl)
            path, _, query = where.target(request.path, request.query).partition("?")
            sent = {**request.headers, **added}
            added |= await self.live.headers(provider, used, Address(where.authority, path, query), request, sent)
        reply = await self.upstream.open(provider, request, added, provider.timeouts)
        try:
            body = await reply.read(most, lambda _size: None)
        finally:
            reply.close()
        head = Head(reply.head.status, reply.head.headers)
        problem = await _here_or_in_thread(len(body), flag.problem, head, body)
        return head.status, head.headers, body, problem


async def _here_or_in_thread(size: int, function: Callable[..., R], *args: Any) -> R:
    """Return `function(*args)`, the result of parsing `size` bytes. The function runs in a thread if `size` is above
    `PARSED_HERE`.
    """
    return function(*args) if size <= PARSED_HERE else await asyncio.to_thread(function, *args)


def checked(models: Sequence[DiscoveredModel]) -> Mapping[str, str]:
    """Return the usable models of a list: a map from each name to the id of the underlying model. The id is "" if it is
    the same as the name.

    Names that cannot be used in a request, such as names with control characters, are left out. Raises `SearchFailed`
    if there are no models or too many.
    """
    named = {model.name: model.base for model in models if _is_name(model.name)}
    if len(named) > MAX_MODELS:
        raise SearchFailed(f"listed more than {MAX_MODELS} models; name those that are needed")
    if not named:
        raise SearchFailed("listed no models")
    return {name: base if _is_name(base) and base != name else "" for name, base in named.items()}


def _is_name(text: str) -> bool:
    return 0 < len(text) <= MAX_MODEL and text.isprintable() and bool(text.strip())


def _shown(message: str, secrets: set[str]) -> str:
    """Return a provider's message for the log and for pages, in one line and without the credential."""
    for secret in (secret for secret in secrets if len(secret) >= SHORTEST_SECRET):
        message = message.replace(secret, "[key]")
    line = "".join(character if character.isprintable() else " " for character in message)
    return line if len(line) <= MAX_REASON else f"{line[: MAX_REASON - 1]}…"
