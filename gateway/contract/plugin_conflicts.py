"""Finds conflicts between plugins: two plugins with the same route, or a translator whose dialect no plugin has."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, Protocol

from gateway.contract.flag import OPAQUE, Flag, Route
from gateway.contract.plugin_checks import Mistake
from gateway.contract.plugin_source import place_of
from gateway.contract.route_paths import normal_path, serves_path


class _NamedFlag(Flag, Protocol):
    """A compatibility flag (plugin of an API format) with its name."""

    @property
    def name(self) -> str: ...


def claimed_routes(
    name: str, module: Any, flags: Collection[_NamedFlag], own: Sequence[tuple[str, str]]
) -> Iterator[Mistake]:
    """Yield a mistake for each route of the compatibility flag `name` that is already in use.

    A route is in use if another flag has it, or if the flag itself has it twice. A route is also in use if it would
    match a path of the gateway's own API (`own`).
    """
    others = {_key(route.method, route.path): f"{flag.name} claims" for flag in flags for _, route in _routes(flag)}
    for member, route in _routes(module):
        claim = f"{route.method} {route.path}"
        if used := others.get(_key(route.method, route.path)):
            yield Mistake(name, f"{used} {claim} already; take another path", place_of(module, member))
        others[_key(route.method, route.path)] = "this plugin claims"
        for method, path in own:
            if method == route.method and serves_path(route.path, path):
                wrong = f"{claim} would hide the gateway's own {path}; take a path with the plugin's name"
                yield Mistake(name, wrong, place_of(module, member))
                break


def _routes(flag: Any) -> Iterator[tuple[str, Route]]:
    """Yield the routes that no other flag may have. Each item is a pair: the name of the value with the route, and the
    route.

    The name is `routes`, or `model_lists` for a list of models. Two kinds of lists are left out:

    - A list with `headers`. Several flags may have lists at one path if their headers differ.
    - A list of a flag without routes. Such a flag has no clients that could request the list.
    """
    for route in flag.routes:
        yield "routes", route
    for listed in getattr(flag, "model_lists", ()):
        if flag.routes and not listed.headers:
            yield "model_lists", Route("GET", listed.path, "models")


def _key(method: str, path: str) -> tuple[str, str]:
    return method, normal_path(path)


def unknown_dialects(name: str, module: Any, flags: Collection[Flag]) -> Iterator[Mistake]:
    """Yield a mistake for each dialect (format of bodies) in a translator's name that no compatibility flag has.

    The name is the client's dialect, `__`, and the provider's dialect.
    """
    client, _, provider = name.partition("__")
    known = {dialect for flag in flags for dialect in flag.dialects} - {OPAQUE}
    for dialect, whose in ((client, "client"), (provider, "provider")):
        if dialect not in known:
            similar = get_close_matches(dialect, known, 1)
            right = f'did you mean "{similar[0]}"?' if similar else f"there are {', '.join(sorted(known))}"
            wrong = f'no flag has the {whose} dialect "{dialect}"; {right}'
            yield Mistake(name, wrong, place_of(module, ""))
