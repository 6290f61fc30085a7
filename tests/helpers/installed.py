"""Packages of plugins, installed into a folder from which Python imports modules."""

from tests.helpers.authors_mistakes import FLAG

PACKAGE = "acme-plugins"


def install(folder, source=FLAG, *, group="flags", value="acme_plugin", name="acme"):
    """Install a package whose module is `acme_plugin`, with one entry point."""
    metadata = folder / "acme_plugins-2.1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 2.1\n")
    (metadata / "entry_points.txt").write_text(f"[irisgate.{group}]\n{name} = {value}\n")
    (folder / "acme_plugin.py").write_text(source)
