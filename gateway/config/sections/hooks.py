"""The section `hooks`, and `send_hooks` of a grant's capability.

No hook is called yet. The sections are checked anyway, so that today's configurations still load in a later release
that calls hooks. The messages and their severity (error or warning) are taken from Aperture's documentation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field

from gateway.config.document.hujson import Path
from gateway.config.fields import Names, Timeout
from gateway.config.reading import Reading
from gateway.config.section import Lacking, Section

NO_HOOKS: Final = Lacking("no hook is called, so guardrails are NOT applied, and no hook learns of calls")


class HookSection(Section):
    """A URL that the gateway will request at certain events of a call."""

    url: str = Field("", description='The http or https URL of the hook: "https://hooks.example.com/seen".')
    apikey: str = Field("", description='The key that is sent to the hook: a literal, "env:NAME" or "file:PATH".')
    authorization: Literal["bearer", "x-api-key", "x-goog-api-key", "hec", "cf-aig-authorization"] = Field(
        "bearer", description='How the key is sent: "bearer" is "Authorization: Bearer KEY".'
    )
    timeout: Timeout = Field("5s", description='Maximum time for the hook\'s reply: "5s", "1m30s"; "0" for no limit.')
    disabled: bool = Field(False, description="Whether the hook is left out: true or false.")
    fail_policy: Literal["fail_open", "fail_closed"] = Field(
        "fail_open", description='What happens to a call if the hook fails: "fail_open" lets it through.'
    )
    preference: int = Field(0, description="The order of hooks, of which the highest number is called first: 10.")


class SendHookSection(Section):
    """An entry of a capability's `send_hooks`: the name of a hook, the events that call the hook, and the data that is
    sent to it.
    """

    name: str = Field(description='The name of a hook: "audit".', examples=['"name": "audit"'])
    events: Names = Field((), description='The events for which the hook is called: ["pre_request"].')
    send: Names = Field((), description='The data that the hook gets: ["user_message", "tools"].')


def check_hooks(raw: Mapping[str, Any], reading: Reading) -> None:
    """Report the faults of the section `hooks`."""
    for name, hook in raw.items():
        _check_hook(hook, ("hooks", name), reading)


def check_send_hooks(raw: Sequence[Any], path: Path, declared: Collection[str], reading: Reading) -> None:
    """Report the faults of a capability's `send_hooks`, and warn of hooks that are not declared."""
    for index, item in enumerate(raw):
        place = (*path, index)
        section = reading.section(SendHookSection, item, place)
        if section and section.name not in declared:
            hint = reading.report.hint(section.name, declared)
            reading.report.warn((*place, "name"), f'send_hooks references undefined hook "{section.name}"{hint}')


def _check_hook(raw: Any, path: Path, reading: Reading) -> None:
    section = reading.section(HookSection, raw, path)
    if section is None:
        return
    if not section.url:
        reading.report.warn(path, "no url configured")
    elif not _is_web_address(section.url):
        reading.report.warn((*path, "url"), "invalid scheme; write an http or https URL")


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.netloc)
