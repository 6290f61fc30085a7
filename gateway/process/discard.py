"""Frees an old configuration in small steps.

A configuration of 10,000 models and grants has hundreds of thousands of objects. Freeing all of them at once would stop
all other threads for some 20 ms.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import sleep
from typing import Any, Final

from gateway.call.runtime import Runtime
from gateway.config.load import Loaded

SLICE: Final = 200
"""Number of objects that are freed before other threads may run. Freeing them takes less than a millisecond."""


def discard(old: list[tuple[Loaded, Runtime]]) -> None:
    """Free the memory of a configuration in small steps. Call this in a thread.

    `old` is a list with the only reference to the configuration. Objects that are used elsewhere too, such as by calls
    in flight, are not freed.
    """
    members = [member for loaded, runtime in old for member in _members(loaded, runtime)]
    old.clear()
    while members:
        del members[-SLICE:]
        sleep(0)


def _members(loaded: Loaded, runtime: Runtime) -> Iterator[Any]:
    """Yield the objects of a configuration that are freed in small steps.

    They are the elements of all collections whose length depends on the size of the configuration, such as the grants.
    """
    for config in (loaded.config, runtime.config):
        yield from config.grants
        yield from config.providers.values()
    yield from runtime.catalog.offers
    yield from loaded.document.offsets.items()
    yield from loaded.document.strings
    values: list[Any] = [loaded.document.value]
    while values:
        value = values.pop()
        if isinstance(value, dict | list):
            inner = list(value.values()) if isinstance(value, dict) else value
            yield from inner
            values += inner
