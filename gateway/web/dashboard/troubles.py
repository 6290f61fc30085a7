"""The present troubles, which the overview page shows to admins: refused keys, failing calls, and models that get no
calls for now because their circuit breaker is open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from gateway.call.context import Gateway

LEAST_CALLS: Final = 10
"""Failed calls are shown as a trouble only if there were at least this number of calls in the last five minutes."""
MANY_ERRORS: Final = 0.2
"""A trouble is shown if at least this fraction of the calls in the last five minutes failed."""
_PROVIDERS: Final = ("/ui/providers", "Models and providers")


class Trouble(NamedTuple):
    """A present trouble in words, and a link to the page that has more about it."""

    text: str
    href: str
    label: str


def troubles(gateway: Gateway) -> list[Trouble]:
    """Return the present troubles. Call this in a thread, because there may be thousands of models."""
    return [*_of_providers(gateway), *_of_calls(gateway)]


def _of_providers(gateway: Gateway) -> Iterator[Trouble]:
    providers = gateway.runtime.config.providers.values()
    refused = {provider.id for provider in providers if gateway.keys.names(provider)}
    for provider in sorted(refused):
        yield Trouble(f"{provider} refuses the gateway's key.", *_PROVIDERS)
    resting = Counter(one.provider for one in gateway.health.standings() if one.state == "open")
    for provider, models in sorted(resting.items()):
        if provider not in refused:
            yield Trouble(
                f"{models} model{'' if models == 1 else 's'} of {provider} rest{'s' * (models == 1)}.", *_PROVIDERS
            )
    for provider, is_failing in sorted(gateway.models.failing().items()):
        if is_failing:
            yield Trouble(f"{provider} does not answer with its list of models.", *_PROVIDERS)


def _of_calls(gateway: Gateway) -> Iterator[Trouble]:
    minutes = gateway.metrics.recent.minutes(None)
    calls, errors = sum(minute.calls for minute in minutes), sum(minute.errors for minute in minutes)
    if calls >= LEAST_CALLS and errors >= MANY_ERRORS * calls:
        yield Trouble(
            f"{errors:,} of {calls:,} calls of the last five minutes failed.", "/ui/errors?range=today", "Errors"
        )
