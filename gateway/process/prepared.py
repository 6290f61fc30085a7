"""Computes in a thread what is needed to use a configuration, and then puts the configuration into use.

`reload.py` decides which configurations are used. A worker process uses the configurations that its parent process, the
keeper, sends (`workers/worker.py`).
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.call.context import Gateway
from gateway.call.runtime import Runtime, runtime
from gateway.config.model import Config
from gateway.telemetry.label_names import LabelNames
from gateway.upstream.health.peers import Peers, peers_of


class Prepared(NamedTuple):
    """A configuration that can be put into use at once."""

    written: Config
    """The configuration without discovered models."""
    runtime: Runtime
    names: LabelNames
    peers: Peers


def prepare(gateway: Gateway, written: Config) -> Prepared:
    """Compute everything that is needed to use a configuration. Called in a thread, because it takes long."""
    ready = runtime(gateway.models.applied(written), gateway.registry)
    return Prepared(written, ready, LabelNames.of(ready.config), peers_of(ready.config))


def use(gateway: Gateway, prepared: Prepared) -> None:
    """Put a configuration into use. Calls in flight keep the configuration with which they began."""
    config = prepared.runtime.config
    gateway.current.runtime = prepared.runtime
    gateway.metrics.configured(prepared.names)
    gateway.quotas.configured(config.quotas)
    gateway.health.configured(config, prepared.peers)
    gateway.models.configured(prepared.written)
