"""Configurations of any size, and callers for them. The size is the number of models, and also the number of grants.

The grants have one of three arrangements (`Setup.name`): one grant for each user, all grants for everyone, or all
grants in the tailnet policy. Tailscaled returns the grants in the policy with the caller's identity.
"""

from dataclasses import dataclass, replace
from ipaddress import ip_address

from gateway.access.grants import Grants
from gateway.access.identity.caller import Caller, Identity
from gateway.call.chain import Call, Inbound
from gateway.call.conversion_choice import NO_CONVERSIONS
from gateway.call.plan import plans
from gateway.call.runtime import Runtime
from gateway.config.model import Capability, Config, Grant, Provider
from gateway.contract.flag import ClientRequest
from gateway.contract.members import Members
from gateway.money.prices.table import Prices
from gateway.testkit.tailnet_nodes import Node, User
from gateway.upstream.catalog import Catalog
from tests.bench.arrivals import Connection
from tests.helpers.gateway import CAP

PROVIDERS = 10
CALLERS = 8
NAMED = 4
"""Number of models that each caller calls in turn. These models are evenly spread over all models of the configuration.
"""
IN_POLICY = 2
"""Number of callers whose grants are in the policy. Each of them has all grants of the policy."""
IN_POLICY_AT = "100.64.1.0"
"""Tailnet address of the first caller whose grants are in the policy. The addresses of the other callers follow."""
HEADER = ("x-team", "research")
EACH, EVERYONE, POLICY = "a user for each grant", "all grants for everyone", "all in the tailnet policy"


def model(number):
    """Return the provider and the name of the model with this number. The name is about as long as Bedrock's names."""
    return f"provider-{number % PROVIDERS}", f"us.anthropic.claude-{number:05d}-20251001-v1:0"


def login(number):
    return f"user-{number:05d}@example.com"


def own(number):
    """Return a glob that matches only one model. It ends with a wildcard, so that it must be matched as a pattern."""
    provider, name = model(number)
    return f"{provider}/{name[:-1]}*"


def config(size):
    offered = [model(number) for number in range(size)]
    providers = {
        provider: Provider(provider, "http://127.0.0.1:9", tuple(name for at, name in offered if at == provider))
        for provider in dict.fromkeys(provider for provider, _ in offered)
    }
    return Config(providers)


def grant_each(size):
    """Return one grant for each user. Each grant has two globs: `**`, which allows all models, and one that no other
    grant has.
    """
    return [
        Grant((login(number),), (Capability("user", (own(number), "**"), add_headers=(HEADER,)),))
        for number in range(size)
    ]


def all_for_everyone(size):
    return [Grant(("*",), (Capability("user", (own(number),), add_headers=(HEADER,)),)) for number in range(size)]


def spread(count, size):
    """Return up to `count` evenly spread numbers below `size`. The last number is `size - 1`."""
    count = min(count, size)
    return [size - 1 - position * size // count for position in range(count)]


@dataclass(frozen=True)
class Setup:
    """A configuration, and callers. Each caller has two equal identity objects: one in `seen`, and one in `identities`.

    Calls with `seen` fill the caches, and calls with `identities` are measured. So a cache must find its entry by an
    equal object, as for a call over a new connection.
    """

    name: str
    runtime: Runtime
    seen: list
    identities: list
    models: list

    def calls(self, plugin, identities):
        return [new_call(self.runtime, plugin, identity, name) for identity in identities for _, name in self.models]

    def fresh(self, count):
        """Return `count` identities of the first caller, each on another tailnet node. Nothing is cached for them."""
        return [replace(self.identities[0], node=f"fresh-{number}") for number in range(count)]


def new_call(runtime, plugin, identity, name):
    top = Members(b'{"model":"%s"}' % name.encode())
    ask = ClientRequest(
        "openai_chat", "openai_chat", "generate", "POST", "/v1/chat/completions", "", {}, top, name, stream=False
    )
    return Call(Inbound("req_bench", runtime, plugin, "generate", "bench", identity), identity, ask)


async def setups(size, sim, modes, request):
    """Return a `Setup` for each arrangement of the grants (see the module's docstring).

    `request` is a request to the listener with the identity mode `whois`.
    """
    made = config(size)
    catalog, prices = Catalog(made), Prices.load()
    models = [model(number) for number in spread(NAMED, size)]
    users = [Identity(login(number), node=f"n{number}") for number in spread(CALLERS, size)]
    seen, again = await in_policy(size, sim, modes, request)
    ways = {
        EACH: (grant_each(size), users, [replace(user) for user in users]),
        EVERYONE: (all_for_everyone(size), users, [replace(user) for user in users]),
        POLICY: ([], seen, again),
    }
    return [
        Setup(
            name,
            Runtime(made, Grants(grants, made.providers), catalog, prices, plans(catalog, NO_CONVERSIONS)),
            known,
            new,
            models,
        )
        for name, (grants, known, new) in ways.items()
    ]


async def in_policy(size, sim, modes, request):
    """Return two sequences of identities. Each has the same callers in the same order, but the objects are not the
    same, because each caller is identified twice, over two connections.

    Each caller has `size` capabilities in the tailnet policy.
    """
    given = [{"role": "user", "models": own(number), "add_headers": [": ".join(HEADER)]} for number in range(size)]
    measurements = []
    for number in range(IN_POLICY):
        address = str(ip_address(IN_POLICY_AT) + number)
        sim.add(Node(f"node-{number}.example.ts.net", (address,), User(login(number)), caps={CAP: given}))
        measurements.append([await modes.identify(from_tailnet(request, address)) for _ in range(2)])
    return zip(*measurements, strict=True)


def from_tailnet(request, address):
    """Return a new connection from this address to the listener of `request`."""
    return Caller(Connection(), (address, 4711), request.transport.get_extra_info("sockname"), ())
