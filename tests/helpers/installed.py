"""Packages of plugins, installed into a folder from which Python imports modules."""

import shutil
import sys
from contextlib import contextmanager, suppress

from tests.helpers.authors_mistakes import FLAG

PACKAGE = "acme-plugins"


@contextmanager
def importable(tmp_path, monkeypatch, *packages):
    """Yield a new folder from which Python imports modules.

    At the end, the imported modules of `packages` are discarded, and the threads that they have started
    (`packages_mistakes.THREAD`) are ended.
    """
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        if stop := getattr(sys.modules.pop(name), "STOP", None):
            stop.set()


def install(
    folder, source=FLAG, *, group="flags", value="acme_plugin", name="acme", package=PACKAGE, version="2.1", files=None
):
    """Install a package with one entry point. An earlier version of it is removed.

    `files` is a dict from the path of each module to its source. Without `files`, the only module is `acme_plugin`.
    """
    uninstall(folder, package)
    sources = {"acme_plugin.py": source} if files is None else files
    for path, text in sources.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    write_metadata(folder, package, version, {f"irisgate.{group}": {name: value}}, sources)


def write_metadata(folder, package, version, groups, paths):
    """Write the metadata of an installed package. `groups` is a dict from a group to its entry points, and `paths` are
    the package's files.
    """
    metadata = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    sections = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in groups.items()
    ]
    (metadata / "entry_points.txt").write_text("".join(sections))
    (metadata / "RECORD").write_text("".join(f"{path},,\n" for path in paths))


def uninstall(folder, package=PACKAGE):
    """Remove a package, and the folders that are then empty."""
    for metadata in folder.glob(f"{package.replace('-', '_')}-*.dist-info"):
        for line in (metadata / "RECORD").read_text().splitlines():
            path = folder / line.partition(",")[0]
            path.unlink()
            with suppress(OSError):
                # a folder that is not empty stays, and so do those around it
                path.parent.rmdir()
                path.parent.parent.rmdir()
        shutil.rmtree(metadata)
