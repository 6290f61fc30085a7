"""Checks of a plugin's module against the contract.

Each mistake is reported with its file, its line and the correct form.

- A `Kind` describes one kind of plugin: compatibility flags (plugins of API formats), translators, observers or
  filters. It has the functions and values of these plugins. The functions come from a protocol of the contract, such as
  `Flag`. This module has the rules for the values.
- A plugin may choose the names of its functions' arguments, because the gateway passes arguments by position. But
  argument names that occur in the contract must be in the contract's order.
- A name that is a misspelt hook, such as `smaples`, is a mistake, unless the plugin's code uses the name.

`hook_results.py` checks the results of hooks at each call. `plugin_conflicts.py` finds conflicts between plugins.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from pydantic import PydanticUserError

from gateway.contract.client_api import ClientApi
from gateway.contract.definitions import definition
from gateway.contract.filter import FilterModule
from gateway.contract.flag import API, Flag, ModelList, Observer, Route, Translator
from gateway.contract.http_headers import FRAMING, HEADER_NAME
from gateway.contract.losses import is_known
from gateway.contract.plugin_functions import arguments_of, function_fault, members_of, written_call
from gateway.contract.plugin_source import is_slip, is_used, place_of
from gateway.contract.route_paths import METHODS, path_fault
from gateway.contract.settings import Settings
from gateway.contract.settings_fields import fields_by_key, is_secret

MAX_SHOWN: Final = 80
"""Maximum number of characters of a wrong value that an error message quotes."""

_NEVER_PASSED: Final = FRAMING | {"set-cookie", "keep-alive", "content-encoding"}
"""Reply headers that a plugin must not pass on. They describe the connection to the provider or set a cookie."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake in a plugin."""

    plugin: str
    message: str
    """The message, with the fault and a correction."""
    place: str = ""
    """The file and the line of the mistake. The value is "" if the plugin has no file."""

    def __str__(self) -> str:
        return f"{self.place and f'{self.place}: '}plugin {self.plugin}: {self.message}"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for a value that a plugin's module defines, such as `dialects`. `example` shows a right value."""

    example: str
    is_right: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of plugin, such as filters."""

    name: str
    """The name of the kind in messages, such as "a flag"."""
    required: tuple[str, ...]
    rules: Mapping[str, Rule]
    members: tuple[str, ...]
    functions: Mapping[str, tuple[str, ...]]
    """The arguments of each function, by the function's name."""


def _kind(name: str, protocol: type, required: tuple[str, ...], rules: Mapping[str, Rule]) -> Kind:
    return Kind(name, required, rules, tuple(members_of(protocol)), arguments_of(protocol))


def kind_of(name: str, module: Any) -> Kind:
    """Return the kind of a plugin.

    The name of a translator has `__`. An observer has a function `seen`, and a filter has a function `open`. Any other
    plugin is a compatibility flag.
    """
    if "__" in name:
        return TRANSLATOR
    if hasattr(module, "seen"):
        return OBSERVER
    has_own_members = any(hasattr(module, member) for member in ("dialects", "operations", "loses"))
    return FILTER if hasattr(module, "open") and not has_own_members else FLAG


def has_members(kind: Kind, module: Any) -> bool:
    """Return whether a module defines at least one of the names that this kind of plugin must define, except `api`."""
    return any(hasattr(module, member) for member in kind.required if member != "api")


def mistakes(kind: Kind, name: str, module: Any) -> Iterator[Mistake]:
    """Yield the mistakes in a module that is a plugin of this kind."""
    if not has_members(kind, module):
        yield Mistake(name, _no_plugin(module), place_of(module, ""))
        return
    for member in kind.required:
        if getattr(module, member, None) is None:
            yield Mistake(name, _missing(kind, member, module), place_of(module, member))
    for member, rule in kind.rules.items():
        value = getattr(module, member, None)
        if value is not None and not rule.is_right(value):
            yield Mistake(name, f"{member} = {_shown(value)}; write {rule.example}", place_of(module, member))
    yield from _own_rules(kind, name, module)
    for member, arguments in kind.functions.items():
        function = getattr(module, member, None)
        if function is not None and (fault := function_fault(member, arguments, function, may_wait=kind is FILTER)):
            yield Mistake(name, fault, definition(function) or place_of(module, member))
    yield from _slips(kind, name, module)


def _own_rules(kind: Kind, name: str, module: Any) -> Iterator[Mistake]:
    """Yield the mistakes that only this kind of plugin can have, such as wrong routes of a compatibility flag."""
    if kind is FLAG:
        yield from _routes(name, module)
        yield from _settings(name, "Options", module)
    if kind is FILTER:
        yield from _settings(name, "Settings", module)
    if kind is TRANSLATOR:
        yield from _translator(name, module)


def _missing(kind: Kind, member: str, module: Any) -> str:
    """Return the message about a missing function or value. If the module has a similar name, the message asks whether
    that name was meant.
    """
    own = [name for name, value in vars(module).items() if not name.startswith("_") and not inspect.isclass(value)]
    others = [name for name in own if name not in kind.members]
    similar = next((f'; did you mean it by "{name}"?' for name in get_close_matches(member, others, 1)), "")
    is_function = member in kind.functions
    example = f"def {written_call(member, kind.functions[member])}" if is_function else kind.rules[member].example
    return f'has no "{member}"; write {example}{similar}'


def _no_plugin(module: Any) -> str:
    """Return the message about a module that is no plugin."""
    if hasattr(module, "operations") or hasattr(module, "loses"):
        return "is a translator by its members; name it <client dialect>__<provider dialect>"
    needs = "; ".join(f"{kind.name} needs {', '.join(kind.required)}" for kind in KINDS)
    names = [name for name, value in vars(module).items() if inspect.isfunction(value)]
    slips = [(name, hook) for name in names for hook in ("seen", "open") if is_slip(name, hook)]
    hint = f'; did you mean "{slips[0][1]}" by "{slips[0][0]}"?' if slips else ""
    return f"is no plugin: {needs}; the name of a helper begins with _{hint}"


def _slips(kind: Kind, name: str, module: Any) -> Iterator[Mistake]:
    """Yield a mistake for each public name that is probably a misspelling of an optional function or value."""
    if not isinstance(module, types.ModuleType):
        return
    lacking = [member for member in kind.members if member not in kind.required and not _is_own(module, member)]
    values = [member for member in lacking if member in kind.rules]
    for own, value in vars(module).items():
        if own.startswith("_") or own in kind.members:
            continue
        # most names are imported, and an imported function is no hook
        for hook in lacking if inspect.isfunction(value) and _is_own(module, own) else values:
            if is_slip(own, hook) and _fits(kind, hook, value) and not is_used(module, own):
                yield Mistake(name, f'"{own}" has no meaning; did you mean "{hook}"?', place_of(module, own))


def _fits(kind: Kind, hook: str, value: Any) -> bool:
    """Return whether a value or function of a module would be right if its name were `hook`."""
    if hook in kind.rules:
        return kind.rules[hook].is_right(value)
    return hook in kind.functions and not function_fault(hook, kind.functions[hook], value, may_wait=kind is FILTER)


def _is_own(module: types.ModuleType, member: str) -> bool:
    """Return whether the module defines a name. An imported function counts only if it comes from a submodule."""
    value = getattr(module, member, None)
    home = getattr(value, "__module__", module.__name__) if inspect.isfunction(value) else module.__name__
    return value is not None and (home == module.__name__ or home.startswith(f"{module.__name__}."))


def _routes(name: str, module: Any) -> Iterator[Mistake]:
    routes = getattr(module, "routes", ())
    if not _are(routes, Route):
        return
    for route in routes:
        fault = ""
        if route.method not in METHODS:
            fault = f"write one of {', '.join(METHODS)}"
        elif not isinstance(route.operation, str) or not route.operation:
            fault = 'name the operation, such as "generate"'
        else:
            fault = path_fault(route.path)
        if fault:
            yield Mistake(name, f"{_shown(route)}: {fault}", place_of(module, "routes"))


def _translator(name: str, module: Any) -> Iterator[Mistake]:
    parts = name.split("__")
    if len(parts) != 2 or not all(parts):
        yield Mistake(
            name,
            "a translator's name is <client dialect>__<provider dialect>, with two underscores once",
            place_of(module, ""),
        )
    if getattr(module, "loses", None) is None and not is_known(name):
        yield Mistake(name, f'has no "loses"; write {_TRANSLATOR_RULES["loses"].example}', place_of(module, ""))


def _settings(name: str, member: str, module: Any) -> Iterator[Mistake]:
    """Yield a mistake if a plugin's settings have a field that no configuration could set."""
    model: Any = getattr(module, member, None)
    try:
        if _are_options(model) and (_has_inner_secret(model.model_json_schema()) or _has_secret_without_key(model)):
            fault = "a SecretStr is only read in a field of its own; take it out of the list, the object or the model"
            yield Mistake(name, f"{member}: {fault}", place_of(module, member))
    except PydanticUserError as error:
        fault = str(error).splitlines()[0]
        yield Mistake(
            name, f"{member}: {fault}; the configuration is JSON, so take types that JSON has", place_of(module, member)
        )


def _has_inner_secret(schema: Mapping[str, Any]) -> bool:
    """Return whether a field contains a secret inside of its value, as a list of secrets does.

    The gateway can replace `env:NAME` by a secret only if `env:NAME` is the whole value of a field.
    """
    fields = [*schema.get("properties", {}).values()]
    return _secrets_in(schema) > sum(_is_secret(form) for field in fields for form in (field, *field.get("anyOf", ())))


def _has_secret_without_key(model: type[Settings]) -> bool:
    """Return whether the configuration cannot set some secret field by a single key.

    This is so if the field's only alias is a path of several keys (pydantic's `AliasPath`).
    """
    secrets = {name for name, info in model.model_fields.items() if is_secret(info.annotation)}
    return not secrets <= {*fields_by_key(model).values()}


def _secrets_in(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return _is_secret(value) + sum(map(_secrets_in, inner))


def _is_secret(value: Any) -> bool:
    """Return whether `value` is the JSON Schema of pydantic's `SecretStr`."""
    return isinstance(value, dict) and value.get("format") == "password" and value.get("writeOnly") is True


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _are(values: Any, *kinds: type) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, kinds) for value in values)


def _is_dialect(value: Any) -> bool:
    return isinstance(value, str) and value.isidentifier() and "__" not in value


def _are_dialects(values: Any) -> bool:
    return isinstance(values, tuple) and bool(values) and all(map(_is_dialect, values))


def _are_pairs(values: Any) -> bool:
    return isinstance(values, tuple) and all(_are(pair, str) and len(pair) == 2 for pair in values)


def _are_options(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Settings)


def _are_filter_settings(value: Any) -> bool:
    return _are_options(value) and "on_error" not in value.model_fields


def _are_passed_headers(value: Any) -> bool:
    return _are(value, str) and all(
        HEADER_NAME.fullmatch(name) and name == name.lower() and name not in _NEVER_PASSED for name in value
    )


def _is_content_type(value: Any) -> bool:
    return isinstance(value, str) and "/" in value and value.isprintable()


_API_RULE: Final = Rule(f"api = {API}, the version of this gateway", lambda value: type(value) is int and value == API)
_FLAG_RULES: Final = {
    "api": _API_RULE,
    "dialects": Rule('a tuple of names without "__": dialects = ("acme_text",)', _are_dialects),
    "routes": Rule(
        'a tuple of Route: routes = (Route("POST", "/acme/v1/text", "generate"),)', lambda value: _are(value, Route)
    ),
    "accepts": Rule('a tuple of pairs: accepts = (("openai_chat", "generate"),)', _are_pairs),
    "slow_marks": Rule("a tuple of bytes: slow_marks = (b'\"document\"',)", lambda value: _are(value, bytes)),
    "has_cache_marks": Rule("has_cache_marks = True, or leave it out", lambda value: isinstance(value, bool)),
    "content_type": Rule('one line: content_type = "text/event-stream"', _is_content_type),
    "passed_headers": Rule(
        'a tuple of names in lower case: passed_headers = ("acme-request-id",)', _are_passed_headers
    ),
    "price_list": Rule('the name of a price list: price_list = "openai"', lambda value: isinstance(value, str)),
    "model_lists": Rule(
        'a tuple of ModelList: model_lists = (ModelList("/acme/v1/models"),)', lambda value: _are(value, ModelList)
    ),
    "Options": Rule("class Options(Settings), with Settings of gateway.contract.flag", _are_options),
    "client_api": Rule("client_api = ClientApi(…)", lambda value: isinstance(value, ClientApi)),
}
_TRANSLATOR_RULES: Final = {
    "api": _API_RULE,
    "operations": Rule(
        'a tuple of names: operations = ("generate",)', lambda value: _are(value, str) and bool(value) and all(value)
    ),
    "loses": Rule("a number, the lower the better: loses = 40", lambda value: type(value) is int and value >= 0),
}
_FILTER_RULES: Final = {
    "api": _API_RULE,
    "blocks": Rule("blocks = True, if a call is refused when the filter fails", lambda value: type(value) is bool),
    "Settings": Rule('class Settings(filter.Settings), without a field "on_error"', _are_filter_settings),
}
FLAG: Final = _kind("a flag", Flag, ("api", "dialects", "routes", "build", "meter"), _FLAG_RULES)
TRANSLATOR: Final = _kind("a translator", Translator, ("api", "operations", "open"), _TRANSLATOR_RULES)
OBSERVER: Final = _kind("an observer", Observer, ("api", "seen"), {"api": _API_RULE})
FILTER: Final = _kind("a filter", FilterModule, ("api", "open"), _FILTER_RULES)
KINDS: Final = (FLAG, TRANSLATOR, OBSERVER, FILTER)
