"""The memory of a gateway: what it has learned of its providers. A gateway hands its memory over to the process that
replaces it.

- The memory has the models, providers and keys that rest (are not used for a time), and the keys that providers
  refused. It also has the provider and the key at which each session stays.
- The numbers of models, keys and sessions are limited by the modules that keep them.
- The memory is a part of `State` with a version of its own. A process that cannot read it logs why, and starts without
  it.
- If the new process reaches a provider by other settings, such as another key, the provider starts as healthy.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.call.candidate_order import StickySession
from gateway.call.context import Gateway
from gateway.upstream.health.standings import HealthState
from gateway.upstream.health.ways import fingerprint
from gateway.upstream.key_pools import PoolState

VERSION: Final = 1
"""The version of the format in which a gateway passes on what it has learned of its providers. Another version is not
read.
"""


class _Memory(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    ways: dict[str, str]
    """Maps the id of each provider to a hash of its URL, keys and other settings for requests (`fingerprint`)."""
    health: HealthState
    sessions: tuple[StickySession, ...]
    pools: tuple[PoolState, ...]
    refused_keys: dict[str, list[str]]
    """Maps a provider's id to the names of the keys that the provider refused (`RefusedKeys`)."""


class _Version(msgspec.Struct, frozen=True):
    version: int


def memory_of(gateway: Gateway) -> msgspec.Raw:
    """Return what the gateway has learned of its providers, for the process that replaces it."""
    memory = _Memory(
        version=VERSION,
        ways={id_: fingerprint(provider.as_written) for id_, provider in gateway.runtime.config.providers.items()},
        health=gateway.health.remembered(),
        sessions=gateway.order.remembered(),
        pools=gateway.pools.remembered(),
        refused_keys=gateway.keys.remembered(),
    )
    try:
        return msgspec.Raw(msgspec.json.encode(memory))
    except UnicodeEncodeError:  # a session's id or a model's name that no JSON can have
        return msgspec.Raw(b"null")


def adopt_memory(raw: msgspec.Raw, gateway: Gateway) -> None:
    """Continue with what the replaced gateway had learned of its providers (`raw`). Log why if `raw` is unreadable."""
    try:
        version = msgspec.json.decode(raw, type=_Version | None)
        if version is None:
            return  # a release that sends no memory
        if version.version != VERSION:
            reason = f"it has the version {version.version}, and this release reads version {VERSION}"
            gateway.log.warning("handover.memory_ignored", reason=reason)
            return
        memory = msgspec.json.decode(raw, type=_Memory)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        gateway.log.warning("handover.memory_ignored", reason=str(error))
        return
    providers = gateway.runtime.config.providers
    same = {id_ for id_, provider in providers.items() if memory.ways.get(id_) == fingerprint(provider.as_written)}
    resting = gateway.health.adopt(memory.health, same)
    gateway.order.adopt(memory.sessions)
    gateway.pools.adopt(memory.pools, [providers[id_] for id_ in providers if id_ in same])
    for id_ in same & memory.refused_keys.keys():
        for name in memory.refused_keys[id_]:
            gateway.keys.refused(providers[id_], name)
    gateway.log.info("handover.memory_adopted", resting=resting, sessions=len(memory.sessions))
