"""The plugins of this repository, without those of installed packages. Tests that compare plugins with tables of this
repository use these, so that installed packages do not affect them.
"""

from dataclasses import replace

from gateway.contract.plugin_packages import installed_packages
from gateway.contract.registry import discover


def discover_own(folder=None, **options):
    """Return the gateway's plugins and the plugins of a folder, without plugins of installed packages."""
    others = {name for package, _ in installed_packages() for name in package.plugins}
    return replace(discover(folder, without=others, **options), left_out=(), packages=())
