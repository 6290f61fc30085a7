"""Makes hooks from single functions instead of a plugin's module, for tests of a part of the gateway."""

from types import SimpleNamespace

from gateway.contract.plugin_hooks import flag_hooks, observer_hooks, translator_hooks

PLUGIN = "acme"


def of_flag(**functions):
    return flag_hooks(PLUGIN, SimpleNamespace(), functions)


def of_translator():
    return translator_hooks(PLUGIN, SimpleNamespace(open=None))


def of_observer(**functions):
    return observer_hooks(PLUGIN, SimpleNamespace(**functions))
