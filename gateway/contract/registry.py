"""Finds plugins: built-in modules, entry points of installed packages, and files in a folder.

A plugin is checked once, when it is loaded:

- Its `api` must be the version of this contract, and the required members must exist.
- Its functions must take the arguments that the protocols in `flag.py` define.
- Optional members that a flag does not define are taken from `defaults.py`.
- Functions of plugins are wrapped in hooks, which name the plugin that failed (`hooks.py`).

This module names no flag.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, make_dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol, cast

from gateway.contract.defaults import Defaults
from gateway.contract.flag import API, Flag, Observer, Route, Translation, Translator
from gateway.contract.hook_results import is_async
from gateway.contract.hooks import WRAPPED, Hook, flag_hooks, observer_hooks, translator_hooks
from gateway.contract.losses import is_known
from gateway.contract.plugin_files import failed_line, import_plugin, plugin_paths, use_folder

_BUILT_IN: Final = "gateway_plugins"
_FLAGS: Final = "irisgate.flags"
_TRANSLATORS: Final = "irisgate.translators"
_OBSERVERS: Final = "irisgate.observers"


class PluginError(Exception):
    """An error in a plugin. The message names the plugin and what it must provide."""


class Plugin(Flag, Protocol):
    """A flag with its name and with all members of `Flag`. The rest of the gateway uses flags in this form."""

    @property
    def name(self) -> str:
        """The flag's key in a provider's `compatibility`."""

    @property
    def hooks(self) -> Mapping[str, Hook]:
        """The hooks of the flag and of the objects that it makes, such as `build` and `meter.feed`."""


@dataclass(frozen=True, slots=True)
class LoadedTranslator:
    """A translator with its name. The rest of the gateway uses translators in this form."""

    name: str
    api: int
    loses: int
    operations: tuple[str, ...]
    open: Callable[..., Translation]
    hooks: Mapping[str, Hook]
    """The hook `open`, and the hooks of translations, such as `translation.feed`."""


_REQUIRED: Final = ("api", "dialects", "routes", "build", "meter")
_MEMBERS: Final = tuple(name for name in vars(Flag) if not name.startswith("_"))
_COMPLETED: Final = make_dataclass("Completed", ("name", "hooks", *_MEMBERS), frozen=True, slots=True)
"""The class of loaded flags. Each member comes from the flag's module or, if it is missing there, from `Defaults`."""


def _arguments(protocol: type) -> Mapping[str, int]:
    """Return the number of arguments of each method of a protocol, by the method's name."""
    methods = {name: method for name, method in vars(protocol).items() if inspect.isfunction(method)}
    return {
        name: len(inspect.signature(method).parameters) - 1
        for name, method in methods.items()
        if not name.startswith("_")
    }


def load_plugin(name: str, module: Any) -> Plugin:
    """Check a flag's module and return the flag with all members. Raises `PluginError` if a check fails."""
    for member in _REQUIRED:
        if getattr(module, member, None) is None:
            raise PluginError(f'plugin {name}: has no "{member}"; a flag needs {", ".join(_REQUIRED)}')
    _check_api(name, module)
    if not module.dialects:
        raise PluginError(f"plugin {name}: dialects is empty; name the format of the bodies")
    _check_methods(name, module, Flag)
    defaults = Defaults(name, module)
    members = {
        member: getattr(module, member) if hasattr(module, member) else getattr(defaults, member) for member in _MEMBERS
    }
    hooks = flag_hooks(name, module, members)
    return cast("Plugin", _COMPLETED(name=name, hooks=hooks, **{**members, **_called(hooks)}))


def _called(hooks: Mapping[str, Hook]) -> dict[str, Hook]:
    """Return the hooks that replace functions of the compatibility flag's module, by the function's name."""
    return {name: hooks[name] for name in WRAPPED if name in hooks}


def _load_translator(name: str, module: Any) -> LoadedTranslator:
    """Check a translator's module and return the translator. Raises `PluginError` if a check fails."""
    _check_api(name, module)
    _check_methods(name, module, Translator, required=True)
    loses = getattr(module, "loses", None)
    if not (is_known(name) or isinstance(loses, int)) or not getattr(module, "operations", None):
        raise PluginError(f'plugin {name}: a translator needs "loses", a number, and "operations"')
    hooks = translator_hooks(name, module)
    return LoadedTranslator(name, module.api, loses or 0, module.operations, hooks["open"], hooks)


def _load_observer(name: str, module: Any) -> Mapping[str, Hook]:
    """Check an observer's module and return its hooks. Raises `PluginError` if a check fails."""
    _check_api(name, module)
    _check_methods(name, module, Observer, required=True)
    hooks = observer_hooks(name, module)
    for hook in hooks.values():
        if is_async(hook.function):
            raise _async(name, hook.name)
    return hooks


def _check_api(name: str, module: Any) -> None:
    if getattr(module, "api", None) != API:
        raise PluginError(f"plugin {name}: api = {getattr(module, 'api', None)!r}; this gateway speaks {API}")


def _check_methods(name: str, module: Any, protocol: type, *, required: bool = False) -> None:
    """Raise `PluginError` for a method that does not take the protocol's arguments.

    A missing method is an error only if `required` is true.
    """
    for method, count in _arguments(protocol).items():
        function = getattr(module, method, None)
        if function is None and not required:
            continue
        if not callable(function):
            raise PluginError(f"plugin {name}: {method} is not a function")
        if is_async(function):
            raise _async(name, method)
        try:
            inspect.signature(function).bind(*range(count))
        except TypeError:
            raise PluginError(f"plugin {name}: {method} must take {count} argument(s)") from None


def _async(name: str, method: str) -> PluginError:
    return PluginError(f"plugin {name}: {method} is an async function; the gateway does not await hooks")


@dataclass(frozen=True, slots=True)
class Registry:
    """All plugins, by name."""

    flags: Mapping[str, Plugin]
    translators: Mapping[tuple[str, str], LoadedTranslator]
    """Translators by the pair of the client's dialect and the upstream's dialect."""
    observers: Mapping[str, Mapping[str, Hook]]
    """The hooks of each observer: `seen`, and `seen_event` if the observer has this function."""

    def hooks(self) -> Iterator[Hook]:
        """Yield the hooks of all plugins."""
        for flag in self.flags.values():
            yield from flag.hooks.values()
        for translator in self.translators.values():
            yield from translator.hooks.values()
        for hooks in self.observers.values():
            yield from hooks.values()

    def routes(self) -> Iterator[tuple[Plugin, Route]]:
        """Yield the routes of all flags, each with its flag. Raises `PluginError` if two flags have the same route."""
        claimed: dict[tuple[str, str], str] = {}
        for flag in self.flags.values():
            for route in flag.routes:
                other = claimed.setdefault((route.method, route.path), flag.name)
                if other != flag.name:
                    raise PluginError(f"plugins {other} and {flag.name} both claim {route.method} {route.path}")
                yield flag, route


def discover(folder: Path | None = None) -> Registry:
    """Return all plugins: built-in modules, entry points, and the files in `folder`.

    A module whose name has two underscores in a row is a translator. Of the other modules, a module with `seen` is an
    observer, and a module without `seen` is a flag. Raises `PluginError` if two plugins have the same name, or if a
    plugin cannot be loaded or fails its check.
    """
    flags: dict[str, Plugin] = {}
    translators: dict[tuple[str, str], LoadedTranslator] = {}
    observers: dict[str, Mapping[str, Hook]] = {}
    taken: set[str] = set()
    for name, module in _modules(folder):
        if name in taken:
            raise PluginError(f"plugin {name}: there is one of that name already")
        taken.add(name)
        source, separator, target = name.partition("__")
        if separator:
            translators[source, target] = _load_translator(name, module)
        elif hasattr(module, "seen"):
            observers[name] = _load_observer(name, module)
        else:
            flags[name] = load_plugin(name, cast("Flag", module))
    return Registry(flags, translators, observers)


def _modules(folder: Path | None) -> Iterator[tuple[str, ModuleType]]:
    for package in (_BUILT_IN, f"{_BUILT_IN}.translators"):
        path = importlib.import_module(package).__path__
        for info in pkgutil.iter_modules(path):
            if not info.ispkg:
                yield info.name, importlib.import_module(f"{package}.{info.name}")
    installed = entry_points()
    for group in (_FLAGS, _TRANSLATORS, _OBSERVERS):
        for entry in installed.select(group=group):
            yield entry.name, _load(f"plugin {entry.name}", entry.load)
    if folder is not None:
        use_folder(str(folder.absolute()))
        for plugin in plugin_paths(folder.absolute()):
            yield plugin.stem, _from_file(plugin)


def _from_file(path: Path) -> ModuleType:
    """Return the module of a file or package. Raises `PluginError`, with file and line, if it cannot be loaded."""
    try:
        return import_plugin(path)
    except (Exception, SystemExit) as error:
        raise PluginError(f"{failed_line(error, path)}: {type(error).__name__}: {error}") from error


def _load(name: str, load: Callable[[], Any]) -> Any:
    """Return what `load` returns. Raises `PluginError` for any exception of the plugin's code, even `SystemExit`."""
    try:
        return load()
    except (Exception, SystemExit) as error:
        raise PluginError(f"{name}: {type(error).__name__}: {error}") from error
