"""The hooks of each kind of plugin: its functions, and the methods of the objects that these functions return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.contract.definitions import package
from gateway.contract.hooks import Hook

OBSERVER_SECONDS: Final = 1.0
"""Seconds above which an observer causes a warning when it handles one record. Observers run in threads of their
own."""
WRAPPED: Final = (
    "parse", "session_ids", "opening", "dialect_for", "mark_cache", "build", "steps", "retry", "advice", "limit",
    "problem", "decoder", "meter", "encoder", "error", "reply_headers", "stream_type", "model_list", "model_entry",
    "base_url_fault", "discover_models",
)  # fmt: skip
"""Functions of a compatibility flag that the gateway calls through a wrapper, so that each call is checked and timed.

One request causes only a few of these calls, so the wrappers cost little.
"""
_OF_FLAGS: Final = (
    "decoder.feed", "decoder.close", "decoder.whole", "encoder.feed", "encoder.whole", "encoder.ping", "encoder.fail",
    "encoder.close", "meter.feed", "meter.whole", "meter.facts", "output_bytes", "places", "billed_parts",
    "steps.work", "steps.close",
)  # fmt: skip
_OF_FILTERS: Final = ("filter.request", "filter.headers", "filter.text", "filter.replied", "filter.done")
_OF_TRANSLATORS: Final = ("translation.feed", "translation.whole", "translation.close")


def flag_hooks(plugin: str, module: Any, members: Mapping[str, Any]) -> Mapping[str, Hook]:
    """Return the hooks of a compatibility flag (plugin of an API format), and of the objects that the flag makes.

    The keys are the names of the hooks. `members` has the flag's functions.
    """
    home = package(getattr(module, "__name__", None))
    return {
        name: Hook(plugin, name, home, members.get(name), is_default=name in members and not hasattr(module, name))
        for name in (*WRAPPED, *_OF_FLAGS)
    }


def translator_hooks(plugin: str, module: Any) -> Mapping[str, Hook]:
    """Return the hooks of a translator: its function `open`, and the methods of the object that `open` returns.

    The keys are the names of the hooks.
    """
    home = package(getattr(module, "__name__", None))
    return {"open": Hook(plugin, "open", home, module.open)} | {
        name: Hook(plugin, name, home) for name in _OF_TRANSLATORS
    }


def observer_hooks(plugin: str, module: Any) -> Mapping[str, Hook]:
    """Return the hooks of an observer. The keys are their names. The hook `seen_event` is optional."""
    home = package(getattr(module, "__name__", None))
    functions = {name: getattr(module, name, None) for name in ("seen", "seen_event")}
    hooks = {name: Hook(plugin, name, home, function) for name, function in functions.items() if function is not None}
    for hook in hooks.values():
        hook.slow_seconds = OBSERVER_SECONDS
    return hooks


def filter_hooks(plugin: str, module: Any) -> Mapping[str, Hook]:
    """Return the hooks of a filter: its function `open`, and the methods of the object that `open` returns.

    The keys are the names of the hooks.
    """
    home = package(getattr(module, "__name__", None))
    return {name: Hook(plugin, name, home) for name in _OF_FILTERS} | {
        "filter.open": Hook(plugin, "filter.open", home, module.open)
    }
