"""GET /readyz: whether the gateway serves calls, and which faults an operator must correct.

- The status is 503 while the gateway is stopping, cannot write records to its disk, has no worker process left, or
  cannot identify callers at any of its listeners. In these states, calls are refused, or their records could be lost.
  Monitors need to read only the status.
- Other faults are listed in the reply, and the status stays 200, because calls are still served. Such a fault often
  affects several gateways at the same time. With 503, a load balancer would stop using all of them
  (BerriAI/litellm#34934).
- The reply names no provider, path or address, because everybody may read it. The log names them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import monotonic, time
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.access.identity.modes import Modes
from gateway.call.context import Gateway
from gateway.store.base import rfc3339
from gateway.upstream.discovered_models import DiscoveredModels

WATCH_SECONDS: Final = 5.0
"""Seconds between two checks if no monitor asks. A fault may stay unnoticed for this time."""
IDENTITY_SECONDS: Final = 1.0
"""Seconds for which tailscaled's answer is reused, so that many monitors do not cause many lookups."""


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one part of the gateway. `good` and `bad` are the words for its state, and `remedy` is advice for a
    failure.
    """

    name: str
    good: str
    bad: str
    remedy: str


CHECKS: Final = (
    Check(
        "disk", "writable", "unwritable",
        "Make room on the disk of the state folder, and let the gateway's user write to it. Until then records wait in "
        "memory, and are lost if the process is killed. The log has the reason (journal.write_failed or "
        "journal.sync_failed).",
    ),
    Check(
        "identity", "available", "unavailable",
        "Start tailscaled, and let the gateway's user open its socket. The log has the reason (identity.unavailable).",
    ),
    Check(
        "store", "working", "failing",
        "Calls go on, and records wait in the journal. The log has the reason (store.write_failed). A store in "
        "PostgreSQL is used again when its server answers. For a broken SQLite file, stop the gateway and run irisgate "
        "doctor --repair.",
    ),
    Check(
        "keys", "accepted", "refused",
        "Renew the key that a provider refuses, or the AWS credentials. The log names the provider and, of several "
        "keys, the key (upstream.key_refused or upstream.credentials_failed). Other providers are not affected.",
    ),
    Check(
        "providers", "working", "resting",
        "Wait, or look at the providers: irisgate providers and the page Models and providers say which models rest "
        "and why. Their calls go to other providers of the model, or to other targets of its aliases; a model that "
        "nothing can replace is called all the same.",
    ),
    Check(
        "models", "listed", "unlisted",
        "Wait, because the provider is asked again each minute, or look at it: irisgate providers and the page Models "
        "and providers say why it did not list its models. The last list stays in use.",
    ),
    Check(
        "config", "current", "stale",
        "Mend the configuration file. The last valid configuration is in use. irisgate check names the errors.",
    ),
)  # fmt: skip
WORKERS: Final = Check(
    "workers", "alive", "missing",
    "Wait, because a worker that ends is replaced at once. If one is missing again and again, the log has the status "
    "with which it ended (worker.ended). Calls go to the other workers.",
)  # fmt: skip
"""The check that no worker process is missing. It is made only if the gateway has worker processes."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The result of a check that fails."""

    reason: str
    refuses_calls: bool
    since: float = 0.0
    """Unix time in seconds at which the fault was noticed."""


class Readiness:
    """The checks of one gateway: whether it serves calls, and which faults it has."""

    def __init__(self, gateway: Gateway, modes: Modes) -> None:
        self._gateway = gateway
        self._modes = modes
        self._faults: Mapping[str, Fault] = {}
        self._identity: tuple[str, bool] = "", False
        self._identified_at = -IDENTITY_SECONDS
        self._identifying: asyncio.Task[None] | None = None
        self._ready = True
        # monitors must get replies even in an overload, when asyncio's default threads may all be busy
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="readiness")
        gateway.metrics.checks(self._failing, lambda: self._is_ready(self._current(gateway.follower.disk_fault())))

    async def watch(self) -> None:
        """Run the checks again and again, so that changes are noticed without a monitor."""
        while True:
            await self.look()
            await asyncio.sleep(WATCH_SECONDS)

    def close(self) -> None:
        """End the thread that tests the disk, without waiting for a running test."""
        self._thread.shutdown(wait=False)

    async def look(self) -> Mapping[str, Fault]:
        """Run the checks. Return the failing checks by name."""
        tested = asyncio.get_running_loop().run_in_executor(self._thread, self._gateway.follower.disk_fault)
        disk, *_ = await asyncio.gather(tested, self._ask_tailscaled(), self._gateway.refresh())
        self._note(self._current(disk))
        return self._faults

    async def reply(self) -> web.Response:
        """Return the reply to a request for /readyz."""
        faults = await self.look()
        is_ready = self._is_ready(faults)
        status = "draining" if self._gateway.draining else "ready" if is_ready else "unready"
        body: dict[str, Any] = {"status": status}
        checks = self._checks
        body |= {check.name: check.bad if check.name in faults else check.good for check in checks}
        body["problems"] = [_problem(check, faults[check.name]) for check in checks if check.name in faults]
        return web.Response(
            status=200 if is_ready else 503,
            body=orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
            content_type="application/json",
            headers={"cache-control": "no-store"},
        )

    @property
    def _checks(self) -> Sequence[Check]:
        return CHECKS if self._gateway.workers is None else (WORKERS, *CHECKS)

    def _current(self, disk: str) -> dict[str, Fault]:
        """Return the failing checks by name. `disk` is the reason why the disk cannot be written, or "" if it can."""
        gateway = self._gateway
        faults: dict[str, Fault] = {}
        workers = gateway.workers
        if workers is not None and (missing := workers.number - workers.alive) > 0:
            reason = f"{missing} of {workers.number} worker processes are not there"
            faults["workers"] = Fault(reason, refuses_calls=not workers.alive)
        if fault := disk or (workers.disk_fault if workers is not None else ""):
            faults["disk"] = Fault(fault, refuses_calls=True)
        reason, everywhere = self._identity
        if reason:
            faults["identity"] = Fault(f"tailscaled: {reason}", refuses_calls=everywhere)
        if gateway.follower.failing:
            faults["store"] = Fault("the store refuses what it is given", refuses_calls=False)
        if reason := _refused_key(gateway):
            faults["keys"] = Fault(reason, refuses_calls=False)
        resting, alone = gateway.health.resting()
        if resting:
            reason = (
                f"attempts at {resting} models of providers fail; nothing else can serve the calls of {alone} of them"
            )
            faults["providers"] = Fault(reason, refuses_calls=False)
        if reason := _unlisted(gateway.models):
            faults["models"] = Fault(reason, refuses_calls=False)
        if gateway.config_error:
            faults["config"] = Fault("the configuration file has errors", refuses_calls=False)
        return faults

    def _is_ready(self, faults: Mapping[str, Fault]) -> bool:
        return not self._gateway.draining and not _refusals(faults)

    def _failing(self) -> Mapping[str, float]:
        faults = self._current(self._gateway.follower.disk_fault())
        return {check.name: float(check.name in faults) for check in self._checks}

    def _note(self, faults: Mapping[str, Fault]) -> None:
        """Store the failing checks in `_faults`, each with the time at which it began to fail. Log if the gateway
        becomes ready or stops being ready.
        """
        now = time()
        self._faults = {
            name: replace(fault, since=self._faults[name].since if name in self._faults else now)
            for name, fault in faults.items()
        }
        reasons = _refusals(faults)
        if bool(reasons) == self._ready:
            self._ready = not reasons
            if reasons:
                self._gateway.log.warning("gateway.unready", reasons=reasons)
            else:
                self._gateway.log.info("gateway.ready")

    async def _ask_tailscaled(self) -> None:
        """Ask tailscaled whether callers can be identified. Concurrent requests share one lookup."""
        if self._identifying is None:
            if monotonic() - self._identified_at < IDENTITY_SECONDS:
                return
            self._identifying = asyncio.create_task(self._identify())
        await asyncio.shield(self._identifying)

    async def _identify(self) -> None:
        try:
            self._identity = await self._modes.faults()
            self._identified_at = monotonic()
        finally:
            self._identifying = None


def _refused_key(gateway: Gateway) -> str:
    """Return the reason why the check `keys` fails, or "" if no key is refused.

    Everybody may read the reason. Therefore it names a key by its number, and not by its name.
    """
    for provider in gateway.runtime.config.providers.values():
        refused = gateway.keys.names(provider)
        numbers = [number for number, key in enumerate(provider.apikeys, 1) if key.name in refused]
        if numbers:
            which = f"{'key' if len(numbers) == 1 else 'keys'} {' and '.join(map(str, numbers))}"
            return f"a provider refuses the gateway's {which} of {len(provider.apikeys)}"
        if refused:
            return "a provider refuses the gateway's key"
    return ""


def _unlisted(models: DiscoveredModels) -> str:
    """Return a text that says how many providers failed to list their models when they were last asked, or "" if none
    failed. The check `models` shows this text.
    """
    failed = [provider for id_ in models.failures if (provider := models.written.providers.get(id_)) is not None]
    if not failed:
        return ""
    never = sum(models.list_of(provider) is None for provider in failed)
    return f"{len(failed)} providers did not list their models when asked last; {never} of them never did"


def _refusals(faults: Mapping[str, Fault]) -> dict[str, str]:
    """Return the checks whose faults make the gateway refuse calls, each with its reason."""
    return {name: fault.reason for name, fault in faults.items() if fault.refuses_calls}


def _problem(check: Check, fault: Fault) -> dict[str, Any]:
    return {
        "check": check.name,
        "state": check.bad,
        "reason": fault.reason,
        "since": rfc3339(fault.since),
        "refuses_calls": fault.refuses_calls,
        "remedy": check.remedy,
    }


READINESS: Final = web.AppKey("readiness", Readiness)


def routes() -> list[web.RouteDef]:
    return [web.get("/readyz", ready)]


async def ready(request: web.Request) -> web.Response:
    return await request.app[READINESS].reply()
