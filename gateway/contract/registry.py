"""From names to plugins: built-in modules, entry points of installed packages, single files of a folder.

A plugin is looked at once, when it is loaded: version of the contract, what it must have, and the number of arguments
of what it has. What it leaves out is filled in from `json_api.py`. Nothing here knows a flag's name.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final, cast

from gateway.contract import flag as contract
from gateway.contract import json_api
from gateway.contract.errors import Problem
from gateway.contract.flag import (
    Caps,
    ClientApi,
    ClientRequest,
    Decoder,
    Encoder,
    Event,
    Fetch,
    Flag,
    Head,
    HttpRequest,
    Meter,
    Observer,
    Route,
    StepResponse,
    Target,
    Translator,
    UpstreamRequest,
    Usage,
)
from gateway.contract.losses import is_known

_BUILT_IN: Final = "gateway_plugins"
_FLAGS: Final = "irisgate.flags"
_TRANSLATORS: Final = "irisgate.translators"
_OBSERVERS: Final = "irisgate.observers"


class PluginError(Exception):
    """A plugin that cannot be used; the message names it and what would be right."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A flag with its defaults filled in; what the rest of the gateway calls."""

    name: str
    api: int
    dialects: tuple[str, ...]
    routes: tuple[Route, ...]
    accepts: tuple[tuple[str, str], ...]
    content_type: str
    client_api: ClientApi | None
    parse: Callable[[HttpRequest], ClientRequest]
    dialect_for: Callable[[Caps], str]
    build: Callable[[ClientRequest, Target, contract.Drop], UpstreamRequest]
    steps: Callable[
        [ClientRequest, Target, contract.Drop],
        Generator[UpstreamRequest | Fetch, StepResponse, ClientRequest | StepResponse],
    ]
    retry: Callable[[ClientRequest, Target, Problem, contract.Drop], ClientRequest | None]
    limit: Callable[[ClientRequest], int | None]
    problem: Callable[[Head, bytes], Problem | None]
    decoder: Callable[[ClientRequest, Target, Head], Decoder]
    meter: Callable[[ClientRequest, Target, Head], Meter]
    encoder: Callable[[ClientRequest], Encoder]
    texts: Callable[[Event], str]
    with_text: Callable[[Event, str], Event]
    output_bytes: Callable[[Event], int]
    error: Callable[[Problem], tuple[int, dict[str, str], bytes]]
    reply_headers: Callable[[str, Usage | None], dict[str, str]]


_DEMANDED: Final = ("api", "dialects", "routes", "build", "meter")
_ARGUMENTS: Final[Mapping[str, int]] = {
    "parse": 1,
    "dialect_for": 1,
    "build": 3,
    "steps": 3,
    "retry": 4,
    "limit": 1,
    "problem": 2,
    "decoder": 3,
    "meter": 3,
    "encoder": 1,
    "texts": 1,
    "with_text": 2,
    "output_bytes": 1,
    "error": 1,
    "reply_headers": 2,
}


def load_plugin(name: str, module: Any) -> Plugin:
    """A module, checked and completed. Raises `PluginError`."""
    for attribute in _DEMANDED:
        if getattr(module, attribute, None) is None:
            raise PluginError(f'plugin {name}: has no "{attribute}"; a flag needs {", ".join(_DEMANDED)}')
    _check_api(name, module)
    if not module.dialects:
        raise PluginError(f"plugin {name}: dialects is empty; name the format of the bodies")
    for attribute, count in _ARGUMENTS.items():
        if (function := getattr(module, attribute, None)) is not None:
            _check_arguments(name, attribute, function, count)
    dialect = module.dialects[0]
    defaults: dict[str, Any] = {
        "accepts": (),
        "content_type": json_api.CONTENT_TYPE,
        "client_api": None,
        "parse": partial(json_api.parse, name, dialect),
        "dialect_for": lambda _caps: dialect,
        "steps": json_api.no_steps,
        "retry": json_api.no_retry,
        "limit": json_api.limit,
        "problem": json_api.problem_of,
        "decoder": _plain_decoder,
        "encoder": lambda _ask: json_api.SseEncoder(),
        "texts": json_api.no_text,
        "with_text": json_api.same_event,
        "output_bytes": json_api.output_bytes(getattr(module, "texts", json_api.no_text)),
        "error": json_api.error,
        "reply_headers": json_api.reply_headers,
    }
    parts: dict[str, Any] = {
        attribute: getattr(module, attribute, defaults.get(attribute)) for attribute in (*_DEMANDED, *defaults)
    }
    return Plugin(name=name, **parts)


def _plain_decoder(_ask: ClientRequest, _target: Target, _head: Head) -> Decoder:
    return json_api.SseDecoder(lambda name, _payload: name or "message", lambda event: event.payload == b"[DONE]")


def _check_api(name: str, module: Any) -> None:
    if getattr(module, "api", None) != contract.API:
        raise PluginError(f"plugin {name}: api = {getattr(module, 'api', None)!r}; this gateway speaks {contract.API}")


def _check_arguments(name: str, attribute: str, function: Any, count: int) -> None:
    if not callable(function):
        raise PluginError(f"plugin {name}: {attribute} is not a function")
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        raise PluginError(f"plugin {name}: {attribute} must take {count} argument(s)") from None


@dataclass(frozen=True, slots=True)
class Registry:
    """All plugins that were found."""

    flags: Mapping[str, Plugin]
    translators: Mapping[tuple[str, str], Translator]
    """By (client's dialect, upstream's dialect)."""
    observers: Mapping[str, Observer]

    def routes(self) -> Iterator[tuple[Plugin, Route]]:
        """The ways in of every flag, enabled anywhere or not. Raises `PluginError` where two claim the same one."""
        claimed: dict[tuple[str, str], str] = {}
        for found in self.flags.values():
            for route in found.routes:
                other = claimed.setdefault((route.method, route.path), found.name)
                if other != found.name:
                    raise PluginError(f"plugins {other} and {found.name} both claim {route.method} {route.path}")
                yield found, route


def discover(folder: Path | None = None) -> Registry:
    """Built-ins, then entry points, then the files of a folder; a later one may not take an earlier one's name.

    A name with two underscores in a row is a translator's; a module with `seen` is an observer; any other is a flag.
    """
    flags: dict[str, Plugin] = {}
    translators: dict[tuple[str, str], Translator] = {}
    observers: dict[str, Observer] = {}
    taken: set[str] = set()
    for name, module in _modules(folder):
        if name in taken:
            raise PluginError(f"plugin {name}: there is one of that name already")
        taken.add(name)
        source, separator, target = name.partition("__")
        if separator:
            _check_api(name, module)
            _check_arguments(name, "open", getattr(module, "open", None), 3)
            ranked = is_known(name) or isinstance(getattr(module, "loses", None), int)
            if not ranked or not getattr(module, "operations", None):
                raise PluginError(f'plugin {name}: a translator needs "loses", a number, and "operations"')
            translators[source, target] = cast("Translator", module)
        elif hasattr(module, "seen"):
            _check_api(name, module)
            _check_arguments(name, "seen", module.seen, 1)
            observers[name] = cast("Observer", module)
        else:
            flags[name] = load_plugin(name, cast("Flag", module))
    return Registry(flags, translators, observers)


def _modules(folder: Path | None) -> Iterator[tuple[str, ModuleType]]:
    for package in (_BUILT_IN, f"{_BUILT_IN}.translators"):
        path = importlib.import_module(package).__path__
        for found in pkgutil.iter_modules(path):
            if not found.ispkg:
                yield found.name, importlib.import_module(f"{package}.{found.name}")
    for group in (_FLAGS, _TRANSLATORS, _OBSERVERS):
        for entry in entry_points(group=group):
            yield entry.name, _executed(f"plugin {entry.name}", entry.load)
    for file in sorted(folder.glob("*.py")) if folder else ():
        yield file.stem, _from_file(file)


def _from_file(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"irisgate_plugin_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise PluginError(f"{file}: is not a Python file")
    module = importlib.util.module_from_spec(spec)
    _executed(str(file), partial(spec.loader.exec_module, module))
    return module


def _executed(name: str, load: Callable[[], Any]) -> Any:
    """What loading gives. Raises `PluginError` for whatever a plugin's code raises, be it the end of the process."""
    try:
        return load()
    except (Exception, SystemExit) as error:
        raise PluginError(f"{name}: {type(error).__name__}: {error}") from error
