"""Hooks of a plugin that is not a module, for tests of a single stage of the gateway."""

from types import SimpleNamespace

from gateway.contract.hooks import flag_hooks, observer_hooks, translator_hooks

PLUGIN = "acme"


def of_flag(**functions):
    return flag_hooks(PLUGIN, SimpleNamespace(), functions)


def of_translator():
    return translator_hooks(PLUGIN, SimpleNamespace(open=None))


def of_observer(**functions):
    return observer_hooks(PLUGIN, SimpleNamespace(**functions))
