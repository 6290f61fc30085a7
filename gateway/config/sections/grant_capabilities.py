"""The capabilities that one object of a grant gives, whether the grant stands in the file or in the tailnet policy.

- tailscaled sends grants of the tailnet policy with the caller, as a map of capability names to lists of objects
  (`CapMap`).
- Both are checked in the same way. But the gateway cannot refuse a policy: an object with a fault gives nothing, and
  the fault is reported.
- Who is calling, and what the caller may do, is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from pydantic import Field

from gateway.config.check import check
from gateway.config.document.hujson import Document, Path
from gateway.config.fields import Headers, Patterns
from gateway.config.findings import Report
from gateway.config.model import Capability, Permission, Role
from gateway.config.section import PLANNED, Holds, Items, Planned, Section
from gateway.config.sections.charges import BucketSection, Charges, RateLimitSection, read_charges
from gateway.config.sections.hooks import NO_HOOKS, SendHookSection

CAPABILITIES: Final = ("tailscale.com/cap/aperture", "irisgate.dev/cap/irisgate")
"""Keys of a grant's `app` that are read: the hosted product's and our own."""
PERMISSIONS: Final[tuple[Permission, ...]] = ("read_metrics", "read_pricing")
POLICY: Final = "tailnet policy"


class CapabilitySection(Section):
    """Capabilities that a grant gives. Several objects add up."""

    role: Role | None = Field(
        None, description='"user" sees their own sessions, "admin" sees all; without a role every call is refused.'
    )
    models: Patterns = Field(
        (), description='Models, by a pattern over provider and model: "bedrock/**", or a list of them.'
    )
    add_headers: Headers = Field((), description='Headers that calls of these models get: ["X-Project: a"].')
    read_metrics: bool = Field(False, description="Whether /metrics may be read, by admins too: true or false.")
    read_pricing: bool = Field(False, description="Whether the price list may be read, by admins too: true or false.")
    quotas: Annotated[Items, Holds(BucketSection, "list")] = Field(
        (), description='Quotas that calls are charged to: [{"bucket": "daily:<user>"}].'
    )
    rate_limits: Annotated[Items, Holds(RateLimitSection, "list")] = Field(
        (), description='How much may be asked for in a time: [{"requests": "60/min"}, {"tokens": "200000/min"}].'
    )
    send_hooks: Annotated[Items, Holds(SendHookSection, "list"), PLANNED, NO_HOOKS] = Field(
        (),
        description='Hooks that are called for the calls of a grant: [{"name": "audit", "events": ["pre_request"]}].',
    )
    connectors: Annotated[Patterns, PLANNED] = Field(
        (), description='Tools and resources, by connector, category and name: ["wiki/tools/*"].'
    )
    mcp_tools: Annotated[Patterns, PLANNED] = Field((), description='Tools of MCP servers: "wiki/*".')
    mcp_resources: Annotated[Patterns, PLANNED] = Field((), description='Resources of MCP servers: "wiki/*".')
    mcp_templates: Annotated[Patterns, PLANNED] = Field((), description='Resource templates of MCP servers: "wiki/*".')
    skills: Planned = Field(None, description="Skills, as the hosted product has them.")
    filterable_headers: Planned = Field(None, description='Headers by which sessions may be filtered: ["x-team"].')
    direct_paths: Planned = Field(None, description='Paths that may be called directly: ["/direct/**"].')
    enable_chat_ui: Annotated[bool, PLANNED] = Field(False, description="Whether the chat page opens: true or false.")
    set_cors: Annotated[bool, PLANNED] = Field(False, description="Whether CORS headers are set: true or false.")
    cors_paths: Planned = Field(None, description='Paths that get CORS headers: ["/v1/**"].')
    allow_origin: Planned = Field(None, alias="Access-Control-Allow-Origin", description='That CORS header: "*".')
    allow_methods: Planned = Field(None, alias="Access-Control-Allow-Methods", description='That CORS header: "GET".')
    allow_headers: Planned = Field(None, alias="Access-Control-Allow-Headers", description='That CORS header: "*".')


def capability(section: CapabilitySection, origin: str, charged: Charges | None) -> Capability:
    """Return the capability of a valid object. `charged` are its quotas and limits, or None if one of them has a fault.

    The capability is empty then: without a limit that somebody meant to set it would give more than it says.
    """
    if charged is None:
        return Capability(origin=origin)
    permissions = frozenset(name for name in PERMISSIONS if getattr(section, name))
    given = (section.role, section.models, permissions, section.add_headers)
    return Capability(*given, quotas=charged.quotas, rate_limits=charged.rate_limits, origin=origin)


def charges_of(section: CapabilitySection, path: Path, report: Report) -> Charges | None:
    """Return the quotas and limits of the capability at `path`, or None after their faults were reported."""
    return read_charges(section.quotas, section.rate_limits, path, report, by_model=bool(section.models))


def policy_capabilities(app: Mapping[str, Any]) -> tuple[tuple[Capability, ...], tuple[str, ...]]:
    """Return the capabilities in a `CapMap`, and a message for each part that is wrong or has no effect.

    An object with a fault gives nothing; the others count. No input makes it raise.
    """
    capabilities: list[Capability] = []
    messages: list[str] = []
    for name in CAPABILITIES if isinstance(app, Mapping) else ():
        items = app.get(name)
        if not isinstance(items, list | tuple):
            messages += [f"{POLICY}, {name}: must be a list"] if items is not None else []
            continue
        for index, item in enumerate(items):
            origin = f"{POLICY}, {name}[{index}]"
            given, wrong = _item(item, origin)
            capabilities += [given] if given else []
            messages += wrong
    return tuple(capabilities), tuple(messages)


def _item(raw: Any, origin: str) -> tuple[Capability | None, list[str]]:
    """Return the capability of an object, or None, and messages.

    Every offset is 0, because a policy has no positions.
    """
    report = Report("", Document("", raw, dict.fromkeys(_paths(raw), 0)))
    section = check(CapabilitySection, raw, (), report)
    given = capability(section, origin, charges_of(section, (), report)) if section else None
    messages = [": ".join(filter(None, (origin, finding.path, finding.message))) for finding in report.findings]
    return (None if report.failed else given), messages


def _paths(raw: Any) -> Iterator[Path]:
    """Yield the paths of members, of their lists' elements and of these elements' members: no fault lies deeper."""
    for key, value in raw.items() if isinstance(raw, dict) else ():
        yield (key,)
        for index, item in enumerate(value) if isinstance(value, list) else ():
            yield (key, index)
            yield from ((key, index, name) for name in (item if isinstance(item, dict) else ()))
