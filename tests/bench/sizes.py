"""Configurations of any size: as many models as grants, and the callers whom they are for.

Three ways in which grants grow: each for a user of their own, all for everyone, and in the tailnet's policy, where they
come with the caller.
"""

from dataclasses import dataclass, replace
from ipaddress import ip_address

from gateway.access.grants import Grants
from gateway.access.identity.caller import Caller, Identity
from gateway.call.chain import Call, Inbound
from gateway.call.runtime import Runtime
from gateway.config.model import Capability, Config, Grant, Provider
from gateway.contract.flag import ClientRequest
from gateway.contract.members import Members
from gateway.money.prices.table import Prices
from gateway.testkit.localapi import Node, User
from gateway.upstream.catalog import Catalog
from tests.bench.arrivals import Connection
from tests.helpers.gateway import CAP

PROVIDERS = 10
CALLERS = 8
NAMED = 4
"""Callers, and models that each of them calls by turns, from all over the configuration."""
IN_POLICY = 2
"""Callers with grants from the policy: each of them has all of these."""
IN_POLICY_AT = "100.64.1.0"
"""Address of the first of the callers with grants from the policy."""
HEADER = ("x-team", "research")
EACH, EVERYONE, POLICY = "a user for each grant", "all grants for everyone", "all in the tailnet policy"


def model(number):
    """Provider and model; the name is about as long as Bedrock's."""
    return f"provider-{number % PROVIDERS}", f"us.anthropic.claude-{number:05d}-20251001-v1:0"


def login(number):
    return f"user-{number:05d}@example.com"


def own(number):
    """Matches one model, and has to be tried: it is no name and no whole provider."""
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
    """`**` beside their own, so that a user may call what all others call."""
    return [
        Grant((login(number),), (Capability("user", (own(number), "**"), add_headers=(HEADER,)),))
        for number in range(size)
    ]


def all_for_everyone(size):
    return [Grant(("*",), (Capability("user", (own(number),), add_headers=(HEADER,)),)) for number in range(size)]


def spread(count, size):
    """Up to `count` numbers below `size`, the last one among them."""
    count = min(count, size)
    return [size - 1 - position * size // count for position in range(count)]


@dataclass(frozen=True)
class Setup:
    """A configuration, the callers who have called before, and the same ones on connections that are new.

    Who comes by another connection is another value, though an equal one: what is remembered must be found by it.
    """

    name: str
    runtime: Runtime
    seen: list
    identities: list
    models: list

    def calls(self, plugin, identities):
        return [new_call(self.runtime, plugin, identity, name) for identity in identities for _, name in self.models]

    def fresh(self, count):
        """The first caller on other nodes: of those nothing is remembered."""
        return [replace(self.identities[0], node=f"fresh-{number}") for number in range(count)]


def new_call(runtime, plugin, identity, name):
    top = Members(b'{"model":"%s"}' % name.encode())
    ask = ClientRequest(
        "openai_chat", "openai_chat", "generate", "POST", "/v1/chat/completions", "", {}, top, name, stream=False
    )
    return Call(Inbound("req_bench", runtime, plugin, "generate", "bench", identity), identity, ask)


async def setups(size, sim, modes, request):
    """One for each way in which grants grow. `request` is one that came to a listener of mode whois."""
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
        Setup(name, Runtime(made, Grants(grants, made.providers), catalog, prices), known, new, models)
        for name, (grants, known, new) in ways.items()
    ]


async def in_policy(size, sim, modes, request):
    """Callers with as many capabilities from the tailnet, by two connections each."""
    given = [{"role": "user", "models": own(number), "add_headers": [": ".join(HEADER)]} for number in range(size)]
    measurements = []
    for number in range(IN_POLICY):
        address = str(ip_address(IN_POLICY_AT) + number)
        sim.add(Node(f"node-{number}.example.ts.net", (address,), User(login(number)), caps={CAP: given}))
        measurements.append([await modes.identify(from_tailnet(request, address)) for _ in range(2)])
    return zip(*measurements, strict=True)


def from_tailnet(request, address):
    """A connection that has just come from this address to the listener of `request`."""
    return Caller(Connection(), (address, 4711), request.transport.get_extra_info("sockname"), ())
