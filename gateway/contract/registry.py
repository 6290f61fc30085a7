"""Loads the plugins that `plugin_candidates.py` finds.

- A plugin is checked when it is loaded (`plugin_checks.py`, `plugin_conflicts.py`).
- `defaults.py` has the functions and values that a compatibility flag (the plugin of an API format) does not define.
- The gateway calls plugins through hooks, which report failures (`hooks.py`).
- If a plugin in the folder of plugins has a mistake, loading fails. If a plugin of an installed package has a mistake,
  only this plugin is left out (`Registry.skipped`).

The code refers to no particular flag, so a new flag needs no change here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any, Final, Protocol, cast

from gateway.contract.defaults import Defaults
from gateway.contract.flag import Flag, ModelSearch, Route, Translation
from gateway.contract.hooks import Hook
from gateway.contract.plugin_candidates import Candidate, NoFolder, PluginError, candidates, clashes
from gateway.contract.plugin_checks import FILTER, FLAG, TRANSLATOR, Kind, Mistake, has_members, kind_of, mistakes
from gateway.contract.plugin_conflicts import claimed_routes, unknown_dialects
from gateway.contract.plugin_files import Sources, read_sources, use_sources
from gateway.contract.plugin_hooks import WRAPPED, filter_hooks, flag_hooks, observer_hooks, translator_hooks
from gateway.contract.plugin_imports import import_mistake
from gateway.contract.plugin_packages import GROUPS, Package, installed_packages, use_packages
from gateway.contract.samples import FilterSample, Sample
from gateway.contract.settings import Settings


class Plugin(Flag, Protocol):
    """A loaded compatibility flag (the plugin of one API format).

    It has all functions and values of `Flag`, and also a name and hooks.
    """

    @property
    def name(self) -> str:
        """The name of the compatibility flag, as in the configuration."""

    @property
    def hooks(self) -> Mapping[str, Hook]:
        """The hooks of the plugin: its functions, such as `build`, and methods of the objects that these functions
        return, such as `meter.feed`.
        """


@dataclass(frozen=True, slots=True)
class LoadedTranslator:
    """A translator that was imported and checked."""

    name: str
    api: int
    loses: int
    operations: tuple[str, ...]
    open: Callable[..., Translation]
    hooks: Mapping[str, Hook]
    """The hooks by name: `open`, and the methods of the translation that `open` returns, such as `translation.feed`."""
    samples: Callable[[], Sequence[Sample]]


@dataclass(frozen=True, slots=True)
class LoadedFilter:
    """A loaded filter. The configuration decides whether it is used."""

    name: str
    settings: type[Settings]
    blocks: bool
    """True if a call is refused when the filter fails. The configuration's `on_error` can override this."""
    hooks: Mapping[str, Hook]
    """The hooks by name: `filter.open`, and the methods of the object that `open` returns, such as `filter.text`."""
    samples: Callable[[], Sequence[Settings | FilterSample]]


SLOW_IMPORT_SECONDS: Final = 2.0
"""Seconds above which the import of a plugin causes a warning. The gateway and its worker processes wait for each
import."""
_MEMBERS: Final = FLAG.members
_COMPLETED: Final = make_dataclass("Completed", ("name", "hooks", *_MEMBERS), frozen=True, slots=True)
"""The class of a loaded compatibility flag. It has fields for the name, the hooks, and all functions and values of
`Flag`.

For a function or value that the plugin does not define, the field has the default.
"""


def load_plugin(name: str, module: Any) -> Plugin:
    """Check a compatibility flag's module, and return the flag. Raises `PluginError` if a check fails."""
    _require_none(mistakes(FLAG, name, module))
    return _flag(name, module)


def _require_none(wrong: Iterator[Mistake]) -> None:
    if every := tuple(wrong):
        raise PluginError(*every)


def _flag(name: str, module: Any) -> Plugin:
    """Return the compatibility flag that a checked module defines. It has the defaults of all names that the module
    lacks.
    """
    defaults = Defaults(name, module)
    members = {
        member: getattr(module, member) if hasattr(module, member) else getattr(defaults, member) for member in _MEMBERS
    }
    hooks = flag_hooks(name, module, members)
    return cast("Plugin", _COMPLETED(name=name, hooks=hooks, **{**members, **_called(hooks)}))


def _called(hooks: Mapping[str, Hook]) -> dict[str, Callable[..., Any]]:
    """Return a wrapper for each of the plugin's functions in `WRAPPED`, by the function's name.

    A wrapper calls the function through its hook.
    """
    return {name: hooks[name].call for name in WRAPPED if name in hooks}


def _translator(name: str, module: Any) -> LoadedTranslator:
    """Return the translator of a checked module.

    If the module defines no `loses`, the value is 0. Built-in translators define none, because their losses are in
    `conversions.json`.
    """
    hooks = translator_hooks(name, module)
    loses = getattr(module, "loses", 0)
    samples = getattr(module, "samples", tuple)
    return LoadedTranslator(name, module.api, loses, module.operations, hooks["open"].call, hooks, samples)


def _filter(name: str, module: Any) -> LoadedFilter:
    hooks = filter_hooks(name, module)
    settings, blocks = getattr(module, "Settings", Settings), getattr(module, "blocks", False)
    return LoadedFilter(name, settings, blocks, hooks, getattr(module, "samples", tuple))


@dataclass(frozen=True, slots=True)
class Skipped:
    """A plugin of an installed package that is left out because of its mistakes."""

    name: str
    package: str
    """Name and version of the package, for messages."""
    mistakes: tuple[Mistake, ...]

    @property
    def reason(self) -> str:
        """The package and the first mistake of the plugin."""
        return f"{self.package}: {self.mistakes[0]}"


@dataclass(frozen=True, slots=True)
class KnownPlugins:
    """Facts about the plugins, with which a configuration is checked."""

    flags: Collection[str]
    unusable: Mapping[str, str] = field(default_factory=dict)
    """The first mistake of each plugin that cannot be used, by the plugin's name. If a configuration names such a
    plugin, the error quotes the mistake.
    """
    filters: Mapping[str, type[Settings]] = field(default_factory=dict)
    """The settings class of each filter, by the filter's name."""
    left_out: Collection[str] = ()
    """Names of plugins that were switched off on the command line."""
    price_lists: Mapping[str, str] = field(default_factory=dict)
    """The price list of each compatibility flag that has one, by the flag's name."""
    dialects: Collection[str] = ()
    """The dialects of all compatibility flags."""
    base_url_faults: Mapping[str, Callable[[str], str]] = field(default_factory=dict)
    """The function `base_url_fault` of each compatibility flag, by the flag's name. It warns about a wrong base URL."""
    options: Mapping[str, type[Settings]] = field(default_factory=dict)
    """The class `Options` of each compatibility flag that has options, by the flag's name."""
    cache_marks: Collection[str] = ()
    """Names of the compatibility flags whose requests can have cache marks, such as `cache_control`."""
    searches: Mapping[str, Callable[[str], ModelSearch | None]] = field(default_factory=dict)
    """The function `discover_models` of each compatibility flag, by the flag's name. It returns a search for a
    provider's models.
    """


@dataclass(frozen=True, slots=True)
class Registry:
    """All plugins, by name."""

    flags: Mapping[str, Plugin]
    translators: Mapping[tuple[str, str], LoadedTranslator]
    """Translators by a pair of dialects: the client's and the provider's."""
    observers: Mapping[str, Mapping[str, Hook]]
    """The hooks of each observer: `seen`, and `seen_event` if it is defined."""
    filters: Mapping[str, LoadedFilter] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    """Plugins of installed packages that are left out because of mistakes."""
    sources: Sources | None = None
    """A copy of the source files in the folder of plugins. It is None if there is no such folder."""
    packages: tuple[Package, ...] = ()
    """The installed packages with plugins."""
    slow_imports: Mapping[str, float] = field(default_factory=dict)
    """The import times in seconds of slow plugins (`SLOW_IMPORT_SECONDS`), by the plugin's name."""
    left_out: tuple[str, ...] = ()
    """Names of plugins that were switched off on the command line."""

    @property
    def known(self) -> KnownPlugins:
        """The facts about plugins that the check of a configuration needs."""
        unusable = {plugin.name: plugin.reason for plugin in self.skipped if plugin.name not in self.flags}
        settings = {name: loaded.settings for name, loaded in self.filters.items()}
        lists = {name: flag.price_list for name, flag in self.flags.items() if flag.price_list}
        options = {name: flag.Options for name, flag in self.flags.items() if flag.Options.model_fields}
        urls = {name: flag.base_url_fault for name, flag in self.flags.items()}
        dialects = {dialect for flag in self.flags.values() for dialect in flag.dialects}
        marks = [name for name, flag in self.flags.items() if flag.has_cache_marks]
        searches = {name: flag.discover_models for name, flag in self.flags.items()}
        return KnownPlugins(
            self.flags, unusable, settings, self.left_out, lists, dialects, urls, options, marks, searches
        )

    def hooks(self) -> Iterator[Hook]:
        """Yield the hooks of all plugins."""
        for flag in self.flags.values():
            yield from flag.hooks.values()
        for translator in self.translators.values():
            yield from translator.hooks.values()
        for hooks in self.observers.values():
            yield from hooks.values()
        for loaded in self.filters.values():
            yield from loaded.hooks.values()

    def routes(self) -> Iterator[tuple[Plugin, Route]]:
        """Yield each route of each plugin of an API format, as a pair (plugin, route)."""
        for flag in self.flags.values():
            for route in flag.routes:
                yield flag, route


def discover(
    folder: Path | None = None, *, own: Callable[[], Sequence[tuple[str, str]]] = tuple, without: Collection[str] = ()
) -> Registry:
    """Return the plugins of the gateway, of installed packages and of `folder`. Plugins named in `without` are left
    out.

    `own` returns the method and path of each route of the gateway's own API, which no plugin may have. It is called
    only if there is a compatibility flag that is not built in.

    Raises `NoFolder` if `folder` cannot be listed. Raises `PluginError` if a plugin of the folder has a mistake. If a
    plugin of an installed package has a mistake, only that plugin is left out.
    """
    try:
        sources = None if folder is None else read_sources(folder.absolute())
        use_sources(sources)
        installed = installed_packages()
        packages = tuple(package for package, _ in installed)
        use_packages(packages)
        every = list(candidates(folder, installed))
    except OSError as error:
        raise NoFolder(f"{folder}: {error.strerror}; name a folder of plugin files") from None
    search = _Search(own)
    search.left_out += dict.fromkeys(candidate.name for candidate in every if candidate.name in without)
    several = clashes(every)
    loaded = [(each, several.get(each) or search.load(each)) for each in every if each.name not in without]
    for is_translator in (False, True):
        for candidate, module in loaded:
            if ("__" in candidate.name) is is_translator:
                search.add(candidate, module)
    return replace(search.registry(), sources=sources, packages=packages)


@dataclass(slots=True)
class _Search:
    """The plugins and the mistakes that a search for plugins has found so far."""

    own: Callable[[], Sequence[tuple[str, str]]]
    flags: dict[str, Plugin] = field(default_factory=dict)
    translators: dict[tuple[str, str], LoadedTranslator] = field(default_factory=dict)
    observers: dict[str, Mapping[str, Hook]] = field(default_factory=dict)
    filters: dict[str, LoadedFilter] = field(default_factory=dict)
    taken: dict[str, tuple[Candidate, ModuleType]] = field(default_factory=dict)
    errors: list[Mistake] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    slow_imports: dict[str, float] = field(default_factory=dict)

    def add(self, candidate: Candidate, module: ModuleType | Mistake) -> None:
        """Check a plugin, and add it if it has no mistakes.

        If a plugin of an installed package has mistakes, it is left out. The mistakes of any other plugin are errors.
        If a file in the folder is also a plugin of an installed package (`pip install -e`), it is added only once.
        """
        other, other_module = self.taken.get(candidate.name, (candidate, module))
        if other.group and not candidate.group and _is_same_file(other_module, module):
            return
        wrong = (module,) if isinstance(module, Mistake) else self._checked(candidate, module)
        if not wrong:
            self._take(candidate, cast("ModuleType", module))
        elif candidate.group:
            self.skipped.append(Skipped(candidate.name, candidate.origin, wrong))
        else:
            self.errors += wrong

    def _checked(self, candidate: Candidate, module: ModuleType) -> tuple[Mistake, ...]:
        """Return the mistakes of a plugin. If the plugin's code raises an exception during the checks, this is a
        mistake too.

        Built-in plugins are not checked here, because that would delay each start. A test checks them.
        """
        if candidate.is_built_in:
            return ()
        try:
            return tuple(self._mistakes(candidate, module))
        except Exception as error:  # noqa: BLE001 (whatever a plugin raises)
            home = str(vars(module).get("__package__")).partition(".")[0]
            return (import_mistake(candidate.name, error, home, candidate.place),)

    def load(self, candidate: Candidate) -> ModuleType | Mistake:
        """Return the imported module of a plugin, or a `Mistake`. If the import is slow, record its time."""
        start = perf_counter()
        module = candidate.load()
        if (seconds := perf_counter() - start) > SLOW_IMPORT_SECONDS:
            self.slow_imports[candidate.name] = seconds
        return module

    def registry(self) -> Registry:
        """Return the plugins that were found. Raises `PluginError` if a plugin has a mistake, unless it comes from an
        installed package.
        """
        _require_none(iter(self.errors))
        plugins = self.flags, self.translators, self.observers, self.filters
        skipped, left_out = tuple(self.skipped), tuple(self.left_out)
        return Registry(*plugins, skipped=skipped, left_out=left_out, slow_imports=self.slow_imports)

    def _mistakes(self, candidate: Candidate, module: ModuleType) -> Iterator[Mistake]:
        name, kind = candidate.name, kind_of(candidate.name, module)
        if name in self.taken:
            other, _ = self.taken[name]
            right = "take another name"
            if other.group and not candidate.group:
                right = f"leave out --plugins, uninstall the package, or {right}"
            yield Mistake(name, f"there is one of that name already: {other.origin}; {right}", candidate.place)
            return
        if candidate.group and GROUPS[candidate.group] is not kind and has_members(kind, module):
            right = next(group for group, its_kind in GROUPS.items() if its_kind is kind)
            yield Mistake(name, f"is {kind.name}; write its entry point in the group {right}", candidate.place)
            return
        wrong = tuple(mistakes(kind, name, module))
        yield from wrong
        if not wrong:
            yield from self._conflicts(kind, name, module)

    def _conflicts(self, kind: Kind, name: str, module: ModuleType) -> Iterator[Mistake]:
        if kind is FLAG:
            yield from claimed_routes(name, module, self.flags.values(), self.own())
        if kind is TRANSLATOR:
            yield from unknown_dialects(name, module, self.flags.values())

    def _take(self, candidate: Candidate, module: ModuleType) -> None:
        name, kind = candidate.name, kind_of(candidate.name, module)
        self.taken[name] = candidate, module
        if kind is FLAG:
            self.flags[name] = _flag(name, module)
        elif kind is TRANSLATOR:
            source, _, target = name.partition("__")
            self.translators[source, target] = _translator(name, module)
        elif kind is FILTER:
            self.filters[name] = _filter(name, module)
        else:
            self.observers[name] = observer_hooks(name, module)


def _is_same_file(one: ModuleType | Mistake, other: ModuleType | Mistake) -> bool:
    files = [getattr(module, "__file__", None) for module in (one, other)]
    first, second = (Path(file).resolve() if isinstance(file, str) else None for file in files)
    return first is not None and first == second


__all__ = [
    "KnownPlugins", "LoadedFilter", "LoadedTranslator", "NoFolder", "Plugin", "PluginError", "Registry", "Skipped",
    "discover", "load_plugin",
]  # fmt: skip
