"""A tailnet node, and a stand-in for a connection, for tests of the caller's identity."""

from gateway.testkit.tailnet_nodes import Node, User

ALICE = Node("laptop.example.ts.net", ("100.64.0.7", "fd7a:115c:a1e0::7"), User("alice@example.com"))


class Connection:
    """A stand-in for a transport. Unlike a plain object, it can be weakly referenced."""
