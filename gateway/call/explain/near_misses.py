"""Near misses: grants that nearly give a caller access.

A near miss is for other callers, or has a mistake in a source (`src`) or in a model pattern. It names other callers and
other models, so only administrators see it. `access/grants.py` decides about access.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

import msgspec

from gateway.access.grants import sources
from gateway.access.identity.caller import Identity
from gateway.config.model import Capability, Grant
from gateway.contract.globs import matches

Kind = Literal["tags", "case", "spelling", "other", "segment", "provider"]

MOST: Final = 8
"""Maximum number of near misses (grants that nearly give the caller access) in an explanation. Administrators can find
further ones in the configuration.
"""
MOST_SOURCES: Final = 5
"""Maximum number of sources (entries in the `src` of a grant) that the description of a near miss lists."""


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A grant that nearly gives a caller access to a model: one of its sources (`src`) or model patterns nearly
    matches, or it is for other callers.
    """

    kind: Kind
    written: str
    """The source (`src`) or the model pattern, as written in the grant. If the grant is for other callers (kind
    `other`), the sources of the grant, joined by ", ".
    """
    origin: str
    """The position of the capability in the configuration or policy (`Capability.origin`)."""
    message: str


class Wanted(msgspec.Struct, frozen=True):
    """The access that the caller lacks."""

    role: bool
    names: Collection[str]
    """The wanted model as `provider/model`, once for each provider that has it.

    The collection is empty if the caller's grants already include the model and only a role is missing.
    """

    def given_by(self, capability: Capability) -> bool:
        return (self.role and capability.role is not None) or any(
            matches(pattern, name) for pattern in capability.models for name in self.names
        )


def near_misses(
    grants: Sequence[Grant], identity: Identity, own: Sequence[Capability], wanted: Wanted
) -> tuple[NearMiss, ...]:
    """Return the near misses of a caller: grants that nearly give the caller the access in `wanted`.

    `own` has the caller's capabilities. At most `MOST` near misses are returned. Model patterns in `own` that nearly
    match come first, then grants with a mistake in a source (`src`), then grants for other callers.
    """
    helpful = [
        (grant, capability) for grant in grants for capability in grant.capabilities if wanted.given_by(capability)
    ]
    mine = sources(identity)
    helpful = [(grant, capability) for grant, capability in helpful if not mine.intersection(grant.src)]
    misses = (*_patterns(own, wanted.names), *_slips(helpful, identity), *_others(helpful, identity))
    return tuple(islice(dict.fromkeys(misses), MOST))


def _patterns(own: Sequence[Capability], names: Collection[str]) -> Iterator[NearMiss]:
    """Yield the caller's own patterns that nearly match one of the names, such as patterns with a typing error."""
    for capability in own:
        for pattern in capability.models:
            for kind, meant in _MEANT.items():
                name = next((name for name in names if meant(pattern, name)), None)
                if name is not None:
                    message = f'models "{pattern}" does not cover "{name}": {_WHY[kind]}'
                    yield NearMiss(kind, pattern, capability.origin, message)
                    break


_MEANT: Final[Mapping[Kind, Callable[[str, str], bool]]] = {
    "case": lambda pattern, name: matches(pattern.casefold(), name.casefold()),
    "segment": lambda pattern, name: pattern.endswith("*") and matches(f"{pattern}/**", name),
    "provider": lambda pattern, name: matches(f"*/{pattern}", name),
}
_WHY: Final[Mapping[Kind, str]] = {
    "case": "they differ in letter case",
    "segment": 'a "*" ends at the next "/"; end the pattern in "/**"',
    "provider": 'a pattern begins with the provider, as in "provider/model"',
}


def _slips(helpful: Sequence[tuple[Grant, Capability]], identity: Identity) -> Iterator[NearMiss]:
    for grant, capability in helpful:
        for source in grant.src:
            if (slip := _slip(source, identity)) is not None:
                yield NearMiss(slip[0], source, capability.origin, f'src "{source}" {slip[1]}')


def _slip(source: str, identity: Identity) -> tuple[Kind, str] | None:
    """Return the kind and the description of a mistake in `source`. Return None if `source` has no mistake and is
    simply for other callers.
    """
    if set(source.split(",")) & set(identity.tags):
        whole = ",".join(sorted(identity.tags))
        return "tags", f'does not match this node: a source must be all its tags, sorted and joined: "{whole}"'
    known = sorted(sources(identity))
    if same := [mine for mine in known if source.casefold() == mine.casefold()]:
        return "case", f'differs from "{same[0]}" in letter case'
    if same := [mine for mine in known if _bare(source) == _bare(mine)]:
        return "spelling", f'is not how the caller is known: write "{same[0]}"'
    return None


def _bare(source: str) -> str:
    return source.strip().removeprefix("group:").casefold()


def _others(helpful: Sequence[tuple[Grant, Capability]], identity: Identity) -> Iterator[NearMiss]:
    """Yield the capabilities in `helpful` that are granted to other callers, each as a near miss.

    `helpful` has the capabilities that would give the caller access, with their grants. A grant that only has sources
    with mistakes (`_slip`) is not for other callers, and is left out.
    """
    for grant, capability in helpful:
        others = [source for source in grant.src if _slip(source, identity) is None]
        if not others:
            continue
        names = ", ".join(f'"{source}"' for source in others[:MOST_SOURCES])
        more = f" and {len(others) - MOST_SOURCES} more" if len(others) > MOST_SOURCES else ""
        given = [f'models "{pattern}"' for pattern in capability.models]
        given += [f'role "{capability.role}"'] if capability.role else []
        message = f"{' and '.join(given)}: only for {names}{more}"
        yield NearMiss("other", ", ".join(others[:MOST_SOURCES]), capability.origin, message)
