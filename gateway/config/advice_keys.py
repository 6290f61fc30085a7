"""Warnings about the API keys of providers: placeholders, unsupported forms, and files that every user can read."""

from __future__ import annotations

import re
import stat
from pathlib import Path as FilePath
from typing import Final

from gateway.config.credentials import AwsSettings, CredentialSource, ServiceAccount
from gateway.config.document.hujson import Path
from gateway.config.document.secrets import Secret
from gateway.config.findings import Report
from gateway.config.model import Provider

_PLACEHOLDER: Final = re.compile(r"<.*>|your[-_ ].*|change[-_ ]?me|placeholder|x{3,}|\.{3}", re.IGNORECASE)
_OTHER_FORM: Final = re.compile(r"(cmd|command|shell|vault|ssm|secretsmanager|op|keychain|aws|gcp):")
_MOUNTED: Final = ("/run/secrets/", "/var/run/secrets/")
"""Folders in which a container gets its secrets. All users of the container may read these files, so there is no
warning about an API key in such a file.
"""


def advise_key(provider: Provider, report: Report) -> None:
    path: Path = ("providers", provider.id)
    _advise(_secret(provider.apikey, provider.issuer), (*path, "apikey"), report)
    for key in provider.apikeys:
        _advise(_secret(key.secret, key.source), (*path, "apikeys", key.name), report)


def _secret(secret: Secret, source: AwsSettings | CredentialSource | None) -> Secret:
    """Return the secret to check: the private key of a Google service account, or the configured key of any other
    provider.
    """
    return source.key if isinstance(source, ServiceAccount) else secret


def _advise(key: Secret, path: Path, report: Report) -> None:
    if key.source == "literal":
        if _PLACEHOLDER.fullmatch(key.value):
            report.warn(path, "is a placeholder; write the provider's key, or where it is: env:NAME or file:PATH")
        elif form := _OTHER_FORM.match(key.value):
            message = (
                f'"{form[0]}" is not read, and the text goes upstream as the key; there are "env:", "file:", "exec:" '
                'and "keyfile::"'
            )
            report.warn(path, message)
    elif _everybody_reads(key):
        report.warn(path, "every user of this machine can read the key's file; take the right away with chmod o-r")


def _everybody_reads(key: Secret) -> bool:
    kind, _, name = key.source.partition(":")
    if kind != "file" or name.startswith(_MOUNTED):
        return False
    try:
        return bool(FilePath(name).stat().st_mode & stat.S_IROTH)
    except OSError:
        return False
