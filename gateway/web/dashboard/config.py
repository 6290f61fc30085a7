"""The page Configuration: the file as text, its errors and warnings (findings), a review of changes, and the last
versions.

- The page is one form. Its buttons check a text, show its changes, or save it (`web/admin/config_edits.py`).
  Placeholders replace secrets. `call/guard.py` recognizes forms of other sites by the header `Origin`, and refuses
  them.
- The form has the entity tag of the edited file. If the file was changed after the form was loaded, both texts are
  shown.
- To undo a change, the reader opens the earlier version as an edit, reviews it and saves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple
from urllib.parse import parse_qs

import msgspec
from aiohttp import web

from gateway.access.identity.caller import Identity
from gateway.call.context import ConfigReloader
from gateway.config.differences import Change, Line, changed_lines, changed_values
from gateway.config.document import atomic_file
from gateway.config.document.hujson import HujsonError, line_starts, parse
from gateway.config.document.redact import MARK, redact
from gateway.config.edit import Proposal
from gateway.config.findings import Finding
from gateway.config.history import Change as Edit
from gateway.web.admin.config_edits import ConfigView, admin_of, admin_view, log_refusal, proposal_of, save_text
from gateway.web.admin.problems import Refusal
from gateway.web.admin.sessions import Denied, Missing
from gateway.web.dashboard.frame import page, problem_page
from gateway.web.query_parameters import BadQuery, check_names

MAX_FORM: Final = 4 * 1024 * 1024
"""Maximum number of bytes of the form. A configuration of 1 MB may take 3 MB in a form."""
MAX_FIELDS: Final = 10
"""Maximum number of fields of the form. The page itself sends four."""
FORM_SECONDS: Final = 30.0
"""Maximum number of seconds until the whole form has arrived."""
MAX_FINDINGS: Final = 200
"""Maximum number of findings (errors and warnings about the text) on the page."""
MAX_EXCERPT: Final = 160
"""Maximum number of characters that the page quotes from the line with an error."""
STEPS: Final = ("check", "review", "save")
"""Values of the form's buttons: what to do with the text."""


class Found(NamedTuple):
    """A fault in the text of a configuration, and the line of the text that has the fault."""

    finding: Finding
    excerpt: str


class Review(msgspec.Struct, frozen=True):
    """The differences between a text and the present file, with placeholders in place of secrets."""

    values: Sequence[Change]
    lines: Sequence[Line]


class Form(msgspec.Struct, frozen=True):
    """The fields of the page's form, as the browser sent them."""

    step: str
    text: str
    etag: str
    reviewed: str
    """The digest of the text whose changes the page has already shown. It is "" if no changes were shown."""


class Editor(msgspec.Struct, frozen=True):
    """One request for the page Configuration: the admin, the reloader, and the file as the admin may see it."""

    request: web.Request
    identity: Identity
    reloader: ConfigReloader
    view: ConfigView
    read_only: str
    """The reason why the file cannot be saved. It is "" if it can."""

    async def proposal(self, text: str) -> Proposal:
        return await asyncio.to_thread(proposal_of, text, self.view, self.request, self.identity, self.reloader)

    async def page(
        self,
        text: str,
        *,
        status: int = 200,
        findings: Sequence[Finding] | None = None,
        review: Review | None = None,
        step: str = "",
        problem: str = "",
        version: Edit | None = None,
    ) -> web.Response:
        """Return the page with `text` in the editor. `findings` is None if the text was not checked.

        `step` is what the admin did with the text (`STEPS`), or "conflict" if the file has changed meanwhile. `review`
        has the changes to show, and `problem` an error message. If the text is an earlier version of the file,
        `version` is this version.
        """
        history = self.reloader.history
        found = None if findings is None else [Found(one, _excerpt(text, one)) for one in findings[:MAX_FINDINGS]]
        return await page(
            self.request, "config.html", status,
            file=str(self.reloader.path), text=text, shown=self.view.text, etag=self.view.etag, error=self.view.error,
            read_only=self.read_only, findings=found, count=len(findings or ()), review=review, step=step,
            reviewed=_digest(text) if review else "", problem=problem, version=version,
            saved="saved" in self.request.query,
            history=await asyncio.to_thread(history.changes) if history else [], current="/ui/config",
        )  # fmt: skip


async def config(request: web.Request) -> web.Response:
    """Return the page with the file, or with the earlier version that the query names."""
    check_names(request.query, ("version", "saved"))
    editor = await _editor(request)
    if isinstance(editor, web.Response):
        return editor
    name = request.query.get("version")
    if name is None:
        return await editor.page(editor.view.text)
    history = editor.reloader.history
    version = await asyncio.to_thread(history.version, name) if history else None
    if version is None:
        raise Missing(f'There is no version "{name[:50]}", or it is older than versions are kept.')
    text = await asyncio.to_thread(with_present_keys, version.text, editor.view)
    proposal = await editor.proposal(text)
    review = await asyncio.to_thread(review_of, text, editor.view, editor.reloader.key)
    return await editor.page(text, findings=proposal.errors, review=review, version=version)


async def edit(request: web.Request) -> web.Response:
    """Check the form's text, show its changes, or save it. A text can be saved only after its changes were shown."""
    editor = await _editor(request)
    if isinstance(editor, web.Response):
        return editor
    form = await _form(request)
    # a form has other line ends than most files
    crlf = "\r\n" in editor.view.text
    text = form.text.replace("\r\n", "\n").replace("\n", "\r\n" if crlf else "\n")
    if form.step == "check":
        return await editor.page(text, findings=(await editor.proposal(text)).errors, step="check")
    if form.etag != editor.view.etag:
        return await _conflict(editor, text)
    if form.step == "save" and form.reviewed == _digest(text):
        return await _save(editor, text)
    proposal = await editor.proposal(text)
    review = await asyncio.to_thread(review_of, text, editor.view, editor.reloader.key)
    return await editor.page(text, findings=proposal.errors, review=review, step="review")


async def _save(editor: Editor, text: str) -> web.Response:
    try:
        await save_text(editor.request, text, editor.view)
    except Refusal as refusal:
        log_refusal(editor.request, refusal)
        if refusal.status == web.HTTPPreconditionFailed.status_code:
            again = await _editor(editor.request)
            return again if isinstance(again, web.Response) else await _conflict(again, text)
        findings = (await editor.proposal(text)).errors
        return await editor.page(text, status=refusal.status, findings=findings, step="save", problem=refusal.detail)
    raise web.HTTPSeeOther("/ui/config?saved=1")


async def _conflict(editor: Editor, text: str) -> web.Response:
    """Return the page with the admin's text and its differences from the file, which somebody else has changed
    meanwhile.
    """
    proposal = await editor.proposal(text)
    review = await asyncio.to_thread(review_of, text, editor.view, editor.reloader.key)
    return await editor.page(text, status=409, findings=proposal.errors, review=review, step="conflict")


async def _editor(request: web.Request) -> Editor | web.Response:
    """Return the request's `Editor`, or an error page if there is no configuration to show.

    Raises `Denied` if the caller is no admin.
    """
    try:
        identity, reloader = admin_of(request)
        view = await admin_view(reloader)
    except Refusal as refusal:
        if refusal.status == web.HTTPForbidden.status_code:
            raise Denied(refusal.detail) from None
        return await problem_page(request, refusal.status, "No configuration to show", refusal.detail)
    return Editor(request, identity, reloader, view, await asyncio.to_thread(_read_only, reloader))


def _read_only(reloader: ConfigReloader) -> str:
    try:
        atomic_file.check(reloader.path)
    except atomic_file.NotWritable as error:
        return str(error)
    except OSError as error:
        return f"{reloader.path}: {error.strerror}"
    return ""


async def _form(request: web.Request) -> Form:
    """Return the form. Raises `BadQuery` if it is too large, too slow or not complete."""
    body = bytearray()
    try:
        async with asyncio.timeout(FORM_SECONDS):
            while data := await request.content.readany():
                body += data
                if len(body) > MAX_FORM:
                    raise BadQuery(f"the form is larger than {MAX_FORM} bytes; save the file where it is")
    except TimeoutError:
        raise BadQuery(f"the form did not arrive within {FORM_SECONDS:g} seconds") from None
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise BadQuery(f"the form has more than {MAX_FIELDS} fields; use the form of this page") from None
    step, text, etag, reviewed = (fields.get(name, [""])[0] for name in ("step", "text", "etag", "reviewed"))
    if step not in STEPS:
        raise BadQuery(f'step: "{step[:50]}" is none of {", ".join(STEPS)}')
    return Form(step, text, etag, reviewed)


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=12).hexdigest()


def review_of(text: str, view: ConfigView, key: bytes) -> Review | None:
    """Return the differences between the present file and a text, or None if the text is not valid HuJSON.

    Placeholders stand for all secrets, also for secrets that are new in the text. Call this in a thread.
    """
    try:
        redacted = redact(parse(text), key, view.active)
        present = parse(view.text).value
    except HujsonError:
        return None
    # the marks of the given text are in places of keys, so they have got marks themselves
    marks = {mark: entry.text for mark, entry in redacted.known.items() if MARK.fullmatch(entry.text)}
    shown = MARK.sub(lambda mark: marks.get(mark[0], mark[0]), redacted.text)
    return Review(changed_values(present, parse(shown).value), changed_lines(view.text, shown))


def with_present_keys(text: str, view: ConfigView) -> str:
    """Return an earlier version of the file (`text`), with today's placeholders where the gateway needs them.

    A placeholder stands for a secret, such as an API key. If the gateway no longer knows the secret of a placeholder, a
    save would fail. So a value with such a placeholder is replaced by the present value at the same path, if that value
    has a placeholder too.
    """
    try:
        earlier, present = parse(text), parse(view.text)
    except HujsonError:
        return text
    keys = {string.path: view.text[string.start : string.end] for string in present.strings}
    parts: list[str] = []
    at = 0
    for string in earlier.strings:
        marks = MARK.findall(string.value)
        key = keys.get(string.path, "")
        if marks and not view.known.keys() >= set(marks) and MARK.search(key):
            parts += (text[at : string.start], key)
            at = string.end
    return "".join([*parts, text[at:]])


def _excerpt(text: str, finding: Finding) -> str:
    """Return the line of `text` that has an error, cut to `MAX_EXCERPT`. Return "" if the error is about the whole
    file.
    """
    starts = line_starts(text)
    if not 0 < finding.line <= len(starts):
        return ""
    line = text[starts[finding.line - 1] :].partition("\n")[0].strip()
    return line if len(line) <= MAX_EXCERPT else f"{line[:MAX_EXCERPT]}…"
