"""Reads a configuration as a whole: text, document, sections, secrets, and what is only wrong in between.

All findings are collected before anything is refused, so a file is repaired in one go. What a section may hold is in
`schema.py`, how faults are worded in `check.py`. Nothing here starts, watches or logs anything.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any, Final

from gateway.config import advice
from gateway.config.check import S, check
from gateway.config.findings import ConfigError, Finding, Report, closest
from gateway.config.hujson import Document, HujsonError, Path, parse
from gateway.config.listen import parse_listen
from gateway.config.model import (
    Capability,
    Config,
    Grant,
    Limits,
    Listener,
    Permission,
    Provider,
    Resilience,
    Server,
    Storage,
    Timeouts,
)
from gateway.config.schema import (
    CapabilitySection,
    GrantSection,
    LimitsSection,
    ListenerSection,
    ProviderSection,
    ResilienceSection,
    ServerSection,
    StorageSection,
    TimeoutsSection,
    TopSection,
)
from gateway.config.secrets import Secret, SecretError, file_of, resolve
from gateway.config.watch import Stamp, stamps

DOCUMENTED_FLAGS: Final = (
    "openai_chat",
    "openai_responses",
    "anthropic_messages",
    "gemini_generate_content",
    "google_generate_content",
    "google_raw_predict",
    "bedrock_model_invoke",
    "bedrock_converse",
    "experimental_gemini_cli_vertex_compat",
)
"""Flags of the hosted product; what this gateway really has, the registry knows."""

DEFAULT_FLAG: Final = "openai_chat"

CAPABILITIES: Final = ("tailscale.com/cap/aperture", "irisgate.dev/cap/irisgate")
"""Keys of a grant's `app` that are read, the hosted product's and our own."""

KEYFILE: Final = "keyfile::"
"""Google service accounts, which need tokens made from them; as a key it would go upstream as it stands."""

PERMISSIONS: Final[tuple[Permission, ...]] = ("read_metrics", "read_pricing")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used, and what is worth knowing about it."""

    config: Config
    warnings: tuple[Finding, ...]
    stamps: Mapping[FilePath, Stamp]
    """Files that it was made from, the configuration's own and those of secrets, as they were before they were read."""

    @property
    def watched(self) -> frozenset[FilePath]:
        return frozenset(self.stamps)


def load(
    path: str | FilePath, *, known_flags: Collection[str] = DOCUMENTED_FLAGS, environ: Mapping[str, str] | None = None
) -> Loaded:
    """The configuration in a file. Raises `ConfigError` with all findings."""
    path = FilePath(path)
    files = stamps([path])
    reading = _Reading(name=str(path), folder=path.parent, known=known_flags, environ=environ, files=files)
    return reading.run(_text(path))


def loads(
    text: str,
    *,
    name: str = "config.hujson",
    known_flags: Collection[str] = DOCUMENTED_FLAGS,
    environ: Mapping[str, str] | None = None,
    folder: FilePath | None = None,
) -> Loaded:
    """The configuration in a text; `folder` is where the paths of secrets start."""
    reading = _Reading(name=name, folder=folder or FilePath(), known=known_flags, environ=environ)
    return reading.run(text)


def enabled_flags(compatibility: Mapping[str, bool] | None, known: Collection[str]) -> tuple[str, ...]:
    """The flags that are on.

    The documents of the hosted product differ on the default; the rule that fits all of them: `openai_chat` is on
    without a block, and off when the block sets another flag and does not mention it.
    """
    block = compatibility or {}
    on = [flag for flag, value in block.items() if value]
    if not on and DEFAULT_FLAG not in block:
        on = [DEFAULT_FLAG]
    return tuple(flag for flag in on if flag in known)


def _text(path: FilePath) -> str:
    try:
        # reading from a pipe or a device could wait for ever
        if not stat.S_ISREG(path.stat().st_mode):
            raise _unreadable(path, "is no regular file; a configuration is a file that can be read again")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(path, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise _unreadable(path, f"is not UTF-8 text: byte {error.start} is none of it") from None
    except ValueError:
        raise _unreadable(path, "cannot be read: the path holds a zero byte") from None


def _unreadable(path: FilePath, message: str) -> ConfigError:
    return ConfigError([Finding("error", "", 0, 0, message, str(path))], [path])


@dataclass
class _Reading:
    """One pass over one document; the report and the secrets' files gather while it goes."""

    name: str
    folder: FilePath
    known: Collection[str]
    environ: Mapping[str, str] | None
    files: dict[FilePath, Stamp] = field(default_factory=dict)
    report: Report = field(init=False)
    declared: tuple[str, ...] = ()
    """Keys of all providers, also of those with faults."""

    def run(self, text: str) -> Loaded:
        try:
            document = parse(text)
        except HujsonError as error:
            line, column = Document(text, None, {}).place(error.offset)
            raise ConfigError([Finding("error", "", line, column, str(error), self.name)], self.files) from None
        self.report = Report(self.name, document)
        for twice in document.duplicates:
            self._report_duplicate(document, twice.path, twice.first, twice.second)
        config = self._config(document.value)
        advice.advise(config, self.report)
        if self.report.failed:
            raise ConfigError(self.report.sorted(), self.files)
        return Loaded(config, self.report.sorted(), MappingProxyType(self.files))

    def _report_duplicate(self, document: Document, path: Path, first: int, second: int) -> None:
        places = ["{}:{}".format(*document.place(offset)) for offset in (first, second)]
        message = f'duplicate key "{path[-1]}": it stands at {places[0]} and again at {places[1]}; keep one of them'
        self.report.error(path, message)

    def _config(self, raw: Any) -> Config:
        """Sections that have faults are left out of it; it is only used when there are none."""
        top = check(TopSection, raw, (), self.report)
        if top is None:
            # The other sections are still read, so that their faults are told too.
            sound = {key: value for key, value in raw.items() if _fits(key, value)} if isinstance(raw, dict) else {}
            top = TopSection.model_validate(sound)
        self.declared = tuple(top.providers)
        providers = {id_: self._provider(id_, value) for id_, value in top.providers.items()}
        grants = (self._grant(value, ("grants", index)) for index, value in enumerate(top.grants))
        return Config(
            providers=MappingProxyType({id_: provider for id_, provider in providers.items() if provider}),
            grants=tuple(grant for grant in grants if grant),
            server=self._server(top.server),
            storage=self._storage(top.storage),
            resilience=self._resilience(top.resilience),
        )

    def _provider(self, id_: str, raw: Any) -> Provider | None:
        path: Path = ("providers", id_)
        if not id_.strip() or not id_.isprintable() or set("/* ") & set(id_):
            self.report.error(path, 'a provider\'s key is one word without "/" and "*", such as "bedrock-us"')
        apikey = self._secret(raw.get("apikey") if isinstance(raw, dict) else None, (*path, "apikey"))
        section = check(ProviderSection, raw, path, self.report)
        if section is None:
            return None
        self._check_flags(section.compatibility or {}, (*path, "compatibility"))
        usable = bool(section.baseurl) and not section.apikey.startswith(KEYFILE)
        return Provider(
            id=id_,
            baseurl=section.baseurl,
            models=tuple(dict.fromkeys(section.models)),
            apikey=apikey,
            authorization=section.authorization,
            cost_basis=section.cost_basis or None,
            flags=enabled_flags(section.compatibility, self.known),
            options=MappingProxyType(section.options),
            name=section.name,
            description=section.description,
            disabled=section.disabled or not usable,
            preference=section.preference,
            add_headers=section.add_headers,
            on_loss=section.on_loss,
        )

    def _secret(self, text: Any, path: Path) -> Secret:
        if not isinstance(text, str):
            return Secret()
        if text.startswith(KEYFILE):
            self.report.warn(path, f'"{KEYFILE}" is not supported yet; the provider is left out of routing')
            return Secret()
        if (file := file_of(text, self.folder)) is not None and file not in self.files:
            self.files |= stamps([file])
        try:
            return resolve(text, self.folder, os.environ if self.environ is None else self.environ)
        except SecretError as error:
            self.report.error(path, str(error))
            return Secret()

    def _check_flags(self, compatibility: Mapping[str, bool], path: Path) -> None:
        """A flag of the hosted product that is switched off here loses nothing and needs no warning."""
        known = ", ".join(sorted(self.known))
        for flag, value in compatibility.items():
            documented = flag in DOCUMENTED_FLAGS
            if flag not in self.known and (value or not documented):
                fault = "not supported yet" if documented else "unknown flag"
                message = f"{fault}; it has no effect; there are {known}{closest(flag, self.known)}"
                self.report.warn((*path, flag), message)

    def _grant(self, raw: Any, path: Path) -> Grant | None:
        section = check(GrantSection, raw, path, self.report)
        advice.idle_sources(section.src if section else (), (*path, "src"), self.report)
        app = raw.get("app") if isinstance(raw, dict) else None
        found: list[Capability | None] = []
        for name, items in app.items() if isinstance(app, dict) else ():
            inner = (*path, "app", name)
            if name not in CAPABILITIES:
                known = " and ".join(f'"{capability}"' for capability in CAPABILITIES)
                self.report.warn(inner, f"not supported yet; only {known} are read")
            elif isinstance(items, list):
                found += [self._capability(item, (*inner, index)) for index, item in enumerate(items)]
        return Grant(section.src, tuple(filter(None, found))) if section else None

    def _capability(self, raw: Any, path: Path) -> Capability | None:
        section = check(CapabilitySection, raw, path, self.report)
        if section is None:
            return None
        advice.idle_patterns(section.models, self.declared, (*path, "models"), self.report)
        permissions = frozenset(name for name in PERMISSIONS if getattr(section, name))
        return Capability(section.role, section.models, permissions)

    def _server(self, raw: Mapping[str, Any]) -> Server:
        path: Path = ("server",)
        section = check(ServerSection, raw, path, self.report) or ServerSection()
        limits = self._within(LimitsSection, raw, (*path, "limits"))
        listeners = raw.get("listeners")
        return Server(
            listeners=self._listeners(listeners if isinstance(listeners, list) else [], (*path, "listeners")),
            hosts=section.hosts,
            limits=Limits(**limits.model_dump()),
            drain_seconds=section.drain_seconds,
        )

    def _listeners(self, raw: list[Any], path: Path) -> tuple[Listener, ...]:
        listeners: dict[str, Listener] = {}
        for index, item in enumerate(raw):
            section = check(ListenerSection, item, (*path, index), self.report)
            if section is None:
                continue
            if section.listen in listeners:
                self.report.error((*path, index), f'"{section.listen}" is listened on twice; keep one of them')
            listeners[section.listen] = Listener(
                section.listen,
                *parse_listen(section.listen),
                identity=section.identity or "loopback",
                login=section.login or ",".join(sorted(section.tags)),
                groups=section.groups,
                tags=section.tags,
            )
        return tuple(listeners.values()) or Server().listeners

    def _storage(self, raw: Any) -> Storage:
        section = check(StorageSection, raw, ("storage",), self.report)
        return Storage(section.url) if section else Storage()

    def _resilience(self, raw: Mapping[str, Any]) -> Resilience:
        path: Path = ("resilience",)
        check(ResilienceSection, raw, path, self.report)
        timeouts = self._within(TimeoutsSection, raw, (*path, "timeouts"))
        return Resilience(Timeouts(**timeouts.model_dump()))

    def _within(self, model: type[S], raw: Mapping[str, Any], path: Path) -> S:
        """A section inside of another, which has already told if it is no object."""
        inner = raw.get(str(path[-1]))
        return (check(model, inner, path, self.report) if isinstance(inner, dict) else None) or model()


def _fits(key: str, value: Any) -> bool:
    """The top-level section has the JSON type that it needs."""
    return isinstance(value, list if key == "grants" else dict)
