"""Tests a plugin by all laws (rules for plugins). `irisgate plugins check NAME` prints the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.contract.capabilities import Caps
from gateway.contract.errors import PluginFailed
from gateway.contract.hooks import Hook
from gateway.contract.registry import LoadedFilter, LoadedTranslator, Plugin, Registry
from gateway.contract.samples import FilterSample, Sample
from gateway.testkit.laws.filter_laws import FILTER_LAWS, FilterSubject
from gateway.testkit.laws.flag_laws import FLAG_LAWS
from gateway.testkit.laws.flag_subject import FlagSubject
from gateway.testkit.laws.known_samples import CLAUDE, known_samples
from gateway.testkit.laws.law import Result, reason_of, results
from gateway.testkit.laws.observer_laws import OBSERVER_LAWS, ObserverSubject
from gateway.testkit.laws.translator_laws import TRANSLATOR_LAWS, TranslatorSubject

NO_SAMPLES: Final = (
    "its module has no function `samples`, which returns samples of its format (gateway.contract.samples)"
)
NO_SETTINGS: Final = "its settings have no defaults; return a list of Settings from a function `samples`"


class NotChecked(Exception):
    """The error for a plugin that cannot be checked. The message says why."""


@dataclass(frozen=True, slots=True)
class Report:
    """The results of all laws (rules for plugins) for one plugin."""

    plugin: str
    kind: str
    results: Sequence[Result]

    @property
    def holds(self) -> bool:
        return all(result.holds for result in self.results)

    def __str__(self) -> str:
        untried = sum(not result.is_tried for result in self.results)
        broken = sum(result.is_tried and not result.holds for result in self.results)
        counts = f"{len(self.results)} laws, {broken} broken, {untried} not tried"
        return "\n".join([f"{self.kind} {self.plugin}: {counts}", *self._lines()])

    def _lines(self) -> Iterator[str]:
        for result in self.results:
            mark = "untried" if not result.is_tried else "holds" if result.holds else "BROKEN"
            yield f"  {mark:<7}  {result.rule}"
            yield from (f"           {line}" for line in (result.reason, *result.inputs) if line)


def check(name: str, registry: Registry) -> Report:
    """Return the results of the laws of a plugin. Raises `NotChecked` if no plugin has this name, or if it has no
    samples.
    """
    if name in registry.flags:
        subject = flag_subject(registry.flags[name])
        return Report(name, "flag", list(results(FLAG_LAWS, subject)))
    if name in registry.observers:
        observer = ObserverSubject(registry.observers[name])
        return Report(name, "observer", list(results(OBSERVER_LAWS, observer)))
    if name in registry.filters:
        guarded = filter_subject(registry.filters[name], registry)
        return Report(name, "filter", list(results(FILTER_LAWS, guarded)))
    client, _, upstream = name.partition("__")
    if (translator := registry.translators.get((client, upstream))) is not None:
        between = translator_subject(translator, client, upstream, registry)
        return Report(name, "translator", list(results(TRANSLATOR_LAWS, between)))
    names = sorted(
        [
            *registry.flags,
            *registry.observers,
            *registry.filters,
            *(each.name for each in registry.translators.values()),
        ]
    )
    if skipped := [plugin.reason for plugin in registry.skipped if plugin.name == name]:
        raise NotChecked(f"{name} is left out, because it is broken: {skipped[0]}")
    hint = "if it is a file in a folder, name the folder with --plugins DIR"
    raise NotChecked(f"there is no plugin {name}; {hint}; there are {', '.join(names)}")


def flag_subject(flag: Plugin) -> FlagSubject:
    """Return a flag (the plugin of one API format) with samples: its own, or else known samples of its dialect.

    Raises `NotChecked` if there are no samples.
    """
    home = flag.hooks["build"].home
    if own := own_samples(flag.name, home, flag.samples):
        return FlagSubject(flag, own, Caps())
    if known := known_samples(flag.dialect_for(CLAUDE), flag):
        return FlagSubject(flag, known, CLAUDE)
    raise NotChecked(f"{flag.name}: {NO_SAMPLES}")


def filter_subject(loaded: LoadedFilter, registry: Registry) -> FilterSubject:
    """Return a filter with its samples: those of its function `samples`, or else its default settings.

    Raises `NotChecked` if there are no samples and the settings have no defaults.
    """
    home = loaded.hooks["filter.open"].home
    samples = sampled(loaded.name, home, loaded.samples, loaded.settings, FilterSample)
    if not samples:
        try:
            samples = [loaded.settings()]
        except ValueError:
            raise NotChecked(f"{loaded.name}: {NO_SETTINGS}") from None
    every = [sample if isinstance(sample, FilterSample) else FilterSample(sample) for sample in samples]
    return FilterSubject(loaded, every, [flag for flag in registry.flags.values() if flag.places is not None])


def translator_subject(
    translator: LoadedTranslator, client: str, upstream: str, registry: Registry
) -> TranslatorSubject:
    """Return a translator with its samples, and with one plugin for each of its two dialects, `client` and `upstream`.

    Raises `NotChecked` if there are no samples, or if no plugin has one of the dialects.
    """
    receiving = [flag for flag in registry.flags.values() if client in flag.dialects and flag.routes]
    sending = [flag for flag in registry.flags.values() if upstream in flag.dialects]
    if not receiving or not sending:
        dialect = upstream if receiving else client
        raise NotChecked(f"{translator.name}: no flag has the dialect {dialect}, so the translator is never used")
    pair = receiving[0], sending[0]
    if own := own_samples(translator.name, translator.hooks["open"].home, translator.samples):
        return TranslatorSubject(translator, *pair, upstream, own, Caps())
    if known := known_samples(client, pair[1]):
        return TranslatorSubject(translator, *pair, upstream, known, CLAUDE)
    raise NotChecked(f"{translator.name}: {NO_SAMPLES}")


def own_samples(plugin: str, home: str, function: Callable[[], Any]) -> list[Sample]:
    return sampled(plugin, home, function, Sample)


def sampled(plugin: str, home: str, function: Callable[[], Any], *kinds: type) -> list[Any]:
    """Return the samples of a plugin. `function` is the plugin's function `samples`.

    `home` is the top-level package of the plugin (`Hook.home`). Raises `NotChecked` if the function fails, or if it
    returns anything but a sequence of objects of the types `kinds`.
    """
    try:
        samples = Hook(plugin, "samples", home, function).call()
    except PluginFailed as failed:
        raise NotChecked(f"{plugin}: {reason_of(failed)}") from None
    if not isinstance(samples, Sequence) or not all(isinstance(sample, kinds) for sample in samples):
        names = " or ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
        raise NotChecked(f"{plugin}: samples must return a list of {names}")
    return list(samples)
