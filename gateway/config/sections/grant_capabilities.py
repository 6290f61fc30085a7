"""The capabilities that one object of a grant gives, in the configuration or in the tailnet policy.

- When tailscaled identifies a caller, it also returns the caller's grants from the policy: a map of capability names to
  lists of objects (`CapMap`).
- Objects from both sources are checked in the same way. An invalid object in a policy gives no capability and is
  reported, because the gateway cannot refuse a policy.
- Nothing here decides who is calling or what the caller may do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from pydantic import Field

from gateway.config.check import check
from gateway.config.document.hujson import Document, Path
from gateway.config.fields import GrantedHeaders, Headers, Patterns
from gateway.config.findings import Report
from gateway.config.model import Capability, Permission, Role
from gateway.config.section import PLANNED, Holds, Items, Planned, Section
from gateway.config.sections.charges import BucketSection, Charges, RateLimitSection, read_charges
from gateway.config.sections.direct_paths import DirectPaths, direct_pattern
from gateway.config.sections.hooks import NO_HOOKS, SendHookSection

CAPABILITIES: Final = ("tailscale.com/cap/aperture", "irisgate.dev/cap/irisgate")
"""Keys of a grant's `app` that the gateway reads: Aperture's key, and the gateway's own."""
PERMISSIONS: Final[tuple[Permission, ...]] = ("read_metrics", "read_pricing")
POLICY: Final = "tailnet policy"


class CapabilitySection(Section):
    """One object in a grant's list of capabilities. A caller has the capabilities of all objects of all grants that
    match the caller.
    """

    role: Role | None = Field(
        None,
        description='The role: "user" sees only their own sessions, "admin" all '
        "sessions. Without a role, every call is refused.",
    )
    models: Patterns = Field(
        (),
        description="Patterns for the models that may be used, each as "
        'provider/model: "bedrock/**", or a list of patterns.',
    )
    add_headers: Headers = Field((), description='Headers that are added to calls of these models: ["X-Project: a"].')
    read_metrics: bool = Field(
        False, description="Whether the caller may read /metrics, which no role includes: true or false."
    )
    read_pricing: bool = Field(
        False, description="Whether the caller may read the prices, which no role includes: true or false."
    )
    quotas: Annotated[Items, Holds(BucketSection, "list")] = Field(
        (), description='Quotas that calls are charged to: [{"bucket": "daily:<user>"}].'
    )
    rate_limits: Annotated[Items, Holds(RateLimitSection, "list")] = Field(
        (),
        description="Limits on the requests and tokens in a period: "
        '[{"requests": "60/min"}, {"tokens": "200000/min"}].',
    )
    direct_paths: DirectPaths = Field(
        (),
        description="Requests that may go to a provider as they are, each a path with globs, and before it the methods "
        'if not all are meant: ["/direct/openai/v1/files/**", "GET /direct/openai/v1/batches/*"]. Admins need none.',
    )
    send_hooks: Annotated[Items, Holds(SendHookSection, "list"), PLANNED, NO_HOOKS] = Field(
        (),
        description="Hooks that are called for calls with this capability: "
        '[{"name": "audit", "events": ["pre_request"]}].',
    )
    connectors: Annotated[Patterns, PLANNED] = Field(
        (), description='Patterns for tools and resources, by connector, category and name: ["wiki/tools/*"].'
    )
    mcp_tools: Annotated[Patterns, PLANNED] = Field((), description='Patterns for tools of MCP servers: "wiki/*".')
    mcp_resources: Annotated[Patterns, PLANNED] = Field(
        (), description='Patterns for resources of MCP servers: "wiki/*".'
    )
    mcp_templates: Annotated[Patterns, PLANNED] = Field(
        (), description='Patterns for resource templates of MCP servers: "wiki/*".'
    )
    skills: Planned = Field(None, description="Skills, as the hosted product has them.")
    filterable_headers: GrantedHeaders = Field(
        (),
        description="Recorded headers (`filterable` in the section `database`) by which the caller may filter calls, "
        'sessions and figures, or "*" for all. No role includes this: ["x-team"].',
    )
    enable_chat_ui: Annotated[bool, PLANNED] = Field(
        False, description="Whether the caller may use the chat page: true or false."
    )
    set_cors: Annotated[bool, PLANNED] = Field(False, description="Whether CORS headers are set: true or false.")
    cors_paths: Planned = Field(None, description='Paths that get CORS headers: ["/v1/**"].')
    allow_origin: Planned = Field(
        None, alias="Access-Control-Allow-Origin", description='The value of this CORS header: "*".'
    )
    allow_methods: Planned = Field(
        None, alias="Access-Control-Allow-Methods", description='The value of this CORS header: "GET".'
    )
    allow_headers: Planned = Field(
        None, alias="Access-Control-Allow-Headers", description='The value of this CORS header: "*".'
    )


def capability(section: CapabilitySection, origin: str, charged: Charges | None) -> Capability:
    """Return the capability that a section describes.

    `charged` has the section's quotas and limits. If one of them has a fault, `charged` is None and the capability
    allows nothing: without the limit, it would allow too much.
    """
    if charged is None:
        return Capability(origin=origin)
    permissions = frozenset(name for name in PERMISSIONS if getattr(section, name))
    given = (section.role, section.models, permissions, section.add_headers)
    return Capability(
        *given,
        quotas=charged.quotas,
        rate_limits=charged.rate_limits,
        filterable_headers=section.filterable_headers,
        direct_paths=tuple(map(direct_pattern, section.direct_paths)),
        origin=origin,
    )


def charges_of(section: CapabilitySection, path: Path, report: Report) -> Charges | None:
    """Return the quotas and limits of the capability at `path`. If there are faults, report them and return None."""
    return read_charges(section.quotas, section.rate_limits, path, report, by_model=bool(section.models))


def policy_capabilities(app: Mapping[str, Any]) -> tuple[tuple[Capability, ...], tuple[str, ...]]:
    """Return the capabilities that the tailnet policy gives to a caller, and a message for each part that is wrong or
    has no effect.

    `app` is the `CapMap` of tailscaled's answer: it maps the name of a capability to a list of objects. An object with
    a fault gives no capability, but the other objects still count. Raises no exception.
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
    """Return the capability of an object, and the messages about the object.

    The capability is None if the object has a fault. The messages name paths, but no lines, because the object was not
    read from a file.
    """
    report = Report("", Document("", raw, dict.fromkeys(_paths(raw), 0)))
    section = check(CapabilitySection, raw, (), report)
    given = capability(section, origin, charges_of(section, (), report)) if section else None
    messages = [": ".join(filter(None, (origin, finding.path, finding.message))) for finding in report.findings]
    return (None if report.failed else given), messages


def _paths(raw: Any) -> Iterator[Path]:
    """Yield the paths inside an object from the tailnet policy, down to the keys of objects in lists."""
    for key, value in raw.items() if isinstance(raw, dict) else ():
        yield (key,)
        for index, item in enumerate(value) if isinstance(value, list) else ():
            yield (key, index)
            yield from ((key, index, name) for name in (item if isinstance(item, dict) else ()))
