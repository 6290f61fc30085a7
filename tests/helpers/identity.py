"""A node of a tailnet and a connection, for tests of who is calling."""

from gateway.testkit.localapi import Node, User

ALICE = Node("laptop.example.ts.net", ("100.64.0.7", "fd7a:115c:a1e0::7"), User("alice@example.com"))


class Connection:
    """A stand-in for a connection, which can be referred to weakly, as a transport can."""
