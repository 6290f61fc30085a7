"""Values of the section `exporters`, as the gateway uses them (`model.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Format = Literal["cbor.zstd", "json.gz"]


@dataclass(frozen=True, slots=True)
class Exporter:
    """An export of all calls to a folder."""

    id: str
    """The key in the section `exporters`."""
    folder: Path
    format: Format = "cbor.zstd"
    every: float = 3600
    """Seconds between two exports."""
    limit: int = 1000
    """Maximum number of calls in one object."""
    bodies: bool = False
    """True if the stored bodies of calls are exported too."""

    @property
    def name(self) -> str:
        """The name of the export's position in the store: the destination and the format.

        After a change of one of them, all calls are exported to the new destination.
        """
        return f"{self.id}:{self.destination} {self.format}"

    @property
    def destination(self) -> str:
        """The destination, for people."""
        return str(self.folder)
