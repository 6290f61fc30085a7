"""The steps of a request that reads, stops or lists existing jobs, such as batches.

- Such a request names no model, so the gateway cannot know the provider. It asks each provider that has the API and
  that the caller may use, in the order of the configuration, until one knows the job.
- A caller may read and stop a job if its model is granted to the caller at the provider. The provider's reply names the
  model, so a job is read before it is stopped. Other callers get the reply that the job does not exist.
- A list has the jobs of all callers, with the addresses of their data. The gateway does not know who has started a job,
  so it cannot filter a list. Therefore only admins get lists.

A request that starts a job names a model. It is handled like any other call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from gateway.call.candidate import Candidate
from gateway.call.chain import Call, Next
from gateway.call.conversion_choice import target_of
from gateway.call.plan import NO_ROLE, Plan, added_headers
from gateway.call.responses import Response
from gateway.config.model import Provider
from gateway.contract.capabilities import base_id
from gateway.contract.errors import NOT_FOUND, PERMISSION, Problem, Refused, UpstreamFailed, invalid
from gateway.contract.flag import LIST_JOBS, READ_JOB
from gateway.contract.losses import Way

_NO_JOB = Problem(NOT_FOUND, "the job does not exist, or its model is not granted", param="job")
_UNKNOWN_THERE = frozenset({400, 403, 404})
"""Statuses with which a provider answers if the job belongs to another account or region."""


async def job_providers(call: Call, following: Next) -> Response:
    """Set the candidates of the call, the providers that may know the job, and run the next step.

    Raises `Refused` if the caller may use no such provider. A request for a list of jobs is also refused if the caller
    is no admin, or if several providers have a list.
    """
    access = call.access
    if access.role is None:
        raise Refused(NO_ROLE)
    is_list = call.request.operation == LIST_JOBS
    if is_list and access.role != "admin":
        message = "access denied: only an admin may list jobs; a list has those of all callers"
        raise Refused(Problem(PERMISSION, message))
    providers = _providers(call)
    if not providers:
        none = Problem(NOT_FOUND, f'no enabled provider has the flag "{call.flag.name}"')
        raise Refused(none if is_list else _NO_JOB)
    if is_list and len(providers) > 1:
        names = ", ".join(provider.id for provider in providers)
        raise invalid(f"each of these providers has a list of jobs: {names}; ask one by /direct/PROVIDER/…")
    offers = [call.runtime.catalog.at_provider(provider, "") for provider in providers]
    candidates = [Candidate(offer, call.flag, target_of(offer, call.flag), Way.NATIVE) for offer in offers]
    call.plan = Plan(offers, candidates, {offer.name: added_headers(access, offer) for offer in offers})
    call.offers, call.candidates = offers, candidates
    return await following(call)


def _providers(call: Call) -> Sequence[Provider]:
    """Return the enabled providers that have the API of the call and a model that the caller may use.

    For an admin, return all enabled providers that have the API.
    """
    granted = {offer.provider_id for offer in call.runtime.catalog.visible(call.access)}
    return [
        provider
        for provider in call.runtime.config.providers.values()
        if call.flag.name in provider.flags
        and not provider.disabled
        and (call.access.role == "admin" or provider.id in granted)
    ]


class AskForJob(msgspec.Struct, frozen=True):
    """Asks one provider after the other for a job. This is the last step of the call's chain."""

    attempts: Next
    """The step that sends the request to the call's only candidate (a provider)."""

    async def __call__(self, call: Call) -> Response:
        """Return the reply of the provider that knows the job.

        If no provider knows the job, raises the error that helps the caller most.
        """
        request = call.request
        if request.operation == LIST_JOBS:
            return await self.attempts(call)
        call.request = replace(request, operation=READ_JOB)
        response = await self._find(call)
        if request.operation == READ_JOB:
            return response
        call.request = request
        return await self.attempts(call)

    async def _find(self, call: Call) -> Response:
        """Return the reply of the first provider that knows the job. Make this provider the only candidate.

        Raises `Refused` or `UpstreamFailed` if there is no such provider, or the model of the job is not granted.
        """
        errors: list[Refused | UpstreamFailed] = []
        for candidate in call.candidates:
            call.candidates = (candidate,)
            try:
                response = await self.attempts(call)
            except (Refused, UpstreamFailed) as error:
                if call.attempt is not None:
                    call.attempt.problem = error.problem
                errors.append(error)
                continue
            facts = call.read_facts()
            if _is_granted(call, candidate, "" if facts is None else facts.model):
                return response
            errors.append(Refused(_NO_JOB))
        raise _error_of_all(call, errors)


def _error_of_all(call: Call, errors: Sequence[Refused | UpstreamFailed]) -> Refused | UpstreamFailed:
    """Return the error for the caller if no provider has returned the job.

    - The result is the first error that does not mean "unknown job" (`_UNKNOWN_THERE`). If there is none, the result is
      the first error of a provider. If no provider failed, it is the first refusal.
    - For callers who are not admins, an error that says "not found" is replaced by `_NO_JOB`. So they cannot tell an
      unknown job from a job whose model is not granted to them.
    """
    failed = [error for error in errors if isinstance(error, UpstreamFailed)]
    broken = [error for error in failed if error.status not in _UNKNOWN_THERE]
    error = (*broken, *failed, *errors)[0]
    is_hidden = call.access.role != "admin" and error.problem.code == NOT_FOUND
    return Refused(_NO_JOB) if is_hidden else error


def _is_granted(call: Call, candidate: Candidate, model: str) -> bool:
    """Return whether the caller may use the model of a job at the provider, under any of the model's names."""
    if call.access.role == "admin":
        return True
    provider, wanted = candidate.offer.provider_id, base_id(model)
    offers = [offer for offer in call.runtime.catalog.visible(call.access) if offer.provider_id == provider]
    return any(wanted in {base_id(offer.model), base_id(offer.base)} for offer in offers)
