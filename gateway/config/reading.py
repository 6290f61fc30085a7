"""The context that the readers of all sections share: the report, the environment, and the files that were read.

Each reading of a document has a `Reading` of its own. Each section has its own file in `sections/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Final

from gateway.config.check import check
from gateway.config.document.hujson import Path
from gateway.config.document.secrets import HELPER, KEYFILE, Secret, SecretError, file_of, resolve
from gateway.config.document.watch import Stamp, stamps
from gateway.config.findings import Report
from gateway.config.section import S
from gateway.contract.registry import KnownPlugins

LEFT_OUT: Final = "is switched off on the command line (--without); it has no effect"
"""The warning about a plugin that is named in the configuration but switched off on the command line."""


@dataclass(slots=True)
class Reading:
    """The context of reading one document. `files` maps each file that was read to its stamp (`stat` values) from just
    before the reading.
    """

    report: Report
    folder: FilePath
    plugins: KnownPlugins
    environ: Mapping[str, str]
    files: dict[FilePath, Stamp]

    def unusable(self, name: str) -> str:
        """Return the message about a plugin that is faulty and therefore cannot be used."""
        return f"its plugin cannot be used: {self.plugins.unusable[name]}"

    def section(self, model: type[S], raw: Any, path: Path) -> S | None:
        """Return `raw` as the pydantic model of its section. If it has faults, report them and return None."""
        return check(model, raw, path, self.report)

    def within(self, model: type[S], raw: Mapping[str, Any], path: Path) -> S:
        """Return the section at `path`, or a section with all defaults if the section is missing or has faults.

        `raw` is the object that contains the section.
        """
        inner = raw.get(str(path[-1]))
        return (check(model, inner, path, self.report) if isinstance(inner, dict) else None) or model()

    def secret(self, text: Any, path: Path) -> Secret:
        """Return the secret that `text` is or refers to. If the secret cannot be used, report an error.

        The secret is empty if there is an error, or if the key is obtained only at run time (`exec:`, `keyfile::`).
        """
        if not isinstance(text, str):
            return Secret()
        if text.startswith((KEYFILE, HELPER)):
            return Secret()  # the key is obtained at run time
        if (file := file_of(text, self.folder)) is not None and file not in self.files:
            self.files |= stamps([file])
        try:
            return resolve(text, self.folder, self.environ)
        except SecretError as error:
            self.report.error(path, str(error))
            return Secret()
