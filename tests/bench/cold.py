"""Measures the costs of identity and grants for actions that find no cached result.

These actions are the first call of a caller, a list of a caller's models, a whois lookup, and the preparation of a new
configuration. Each result is a row (name of the action, arrangement of the grants, microseconds). The time is None if
it was not measured.
"""

from contextlib import suppress
from dataclasses import replace
from functools import partial

from gateway.access.grants import Grants
from gateway.contract.errors import Refused
from gateway.contract.registry import discover
from gateway.upstream.catalog import Catalog
from gateway.web.model_lists import _listed
from tests.bench.arrivals import ALICE
from tests.bench.measure import cpu_us, once_us
from tests.bench.sizes import EVERYONE, IN_POLICY_AT, NAMED, POLICY, all_for_everyone, config, from_tailnet, spread

FRESH = 5
"""Number of repetitions of an action that is measured without cached results."""
LIST_US = 200_000
"""The list of a caller's models is measured only if it takes less than this number of microseconds."""
LISTS = ("the list of models, first", "the list of models, rendered", "a model that does not exist")


async def decisions(setup, plugin, through):
    """Return rows of the report about one `Setup`: the times of decisions about calls for which no result is cached.

    `through` is the chain of middlewares that decides about a call.
    """
    grants = setup.runtime.grants
    offers = setup.runtime.catalog.offers
    identity = setup.identities[0]

    async def unremembered(offer):
        grants.access(identity).select([(offer.provider_id, offer.model)])

    new = [setup.calls(plugin, [fresh])[0] for fresh in setup.fresh(FRESH)]
    one = await _again([partial(unremembered, offers[at]) for at in spread(NAMED, len(offers))])
    lists = await _lists(setup, through, setup.calls(plugin, [identity])[0]) if one * len(offers) < LIST_US else {}
    return [
        ("a caller's first call", setup.name, await once_us([partial(through, call) for call in new])),
        ("a decision that is not remembered", setup.name, one),
        *((name, setup.name, lists.get(name)) for name in LISTS),
    ]


async def _lists(setup, through, call):
    """Return the microseconds for each item of `LISTS`: listing a caller's models, writing the list as JSON, and
    refusing a call of an unknown model.
    """
    catalog, grants, registry = setup.runtime.catalog, setup.runtime.grants, discover()
    call.request = replace(call.request, model=f"{call.request.model}x")

    async def made(identity):
        catalog.visible(grants.access(identity))

    async def rendered():
        offers = catalog.visible(grants.access(call.identity))
        listed = [_listed(registry, setup.runtime.prices, offer.model, [offer]) for offer in offers]
        registry.flags["openai_chat"].model_list(listed, {})

    async def missing():
        with suppress(Refused):
            await through(call)

    first = await once_us([partial(made, fresh) for fresh in setup.fresh(FRESH)])
    return dict(zip(LISTS, [first, await _again([rendered]), await _again([missing])], strict=True))


async def _again(steps):
    return (await cpu_us({"": steps}, runs=3))[""]


async def others(size, modes, request):
    """Return three rows of the report that are the same for each `Setup`: a whois lookup without grants in the policy,
    a whois lookup with `size` grants in the policy, and the preparation of a new configuration.
    """
    made = config(size)

    async def whois(address):
        await modes.identify(from_tailnet(request, address))

    async def ready():
        Catalog(made)
        Grants(all_for_everyone(size), made.providers)

    return [
        (
            "whois over the unix socket",
            "no grants in the policy",
            await once_us([partial(whois, ALICE.addresses[0])] * FRESH),
        ),
        ("whois over the unix socket", POLICY, await once_us([partial(whois, IN_POLICY_AT)] * FRESH)),
        ("a configuration is made ready", EVERYONE, await once_us([ready])),
    ]
