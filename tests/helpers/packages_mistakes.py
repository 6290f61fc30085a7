"""Mistakes in installed packages of plugins, each with the message that names it.

`tests/contract/test_installed_plugins.py` makes each of them, and `plugins/mistakes.md` lists them.
"""

from typing import Any, NamedTuple

from tests.helpers.authors_mistakes import FLAG, NEEDS, OBSERVER

THREAD = """import threading

STOP = threading.Event()
threading.Thread(target=STOP.wait, name="poll", daemon={daemon}).start()
"""
"""The first lines of a module whose import starts a thread. The thread ends when `STOP` is set."""


class Mistake(NamedTuple):
    """A mistake in a package, and the gateway's message about it. SITE stands for the folder of the package."""

    title: str
    package: dict[str, Any]
    """Keyword arguments of the function `install` (`installed.py`), which installs the package."""
    place: str
    message: str


LACKS_MODULE = "the package has no module acme_plugins; mend its entry point, or add the module to the package"
INSTALLED = (
    Mistake(
        "code that raises",
        {"source": "import os\n\nos.environ['ACME_NO_KEY']\n"},
        "SITE/acme_plugin.py:3",
        "KeyError: 'ACME_NO_KEY'",
    ),
    Mistake(
        "code that ends the process",
        {"source": "raise SystemExit\n"},
        "SITE/acme_plugin.py:1",
        "SystemExit:; a plugin must not end the process",
    ),
    Mistake(
        "another version of the contract",
        {"source": FLAG.replace("api = 1", "api = 7")},
        "SITE/acme_plugin.py:5",
        "api = 7; write api = 1, the version of this gateway",
    ),
    Mistake(
        "a package that it needs and that is not installed",
        {"source": "import acme_sdk\n"},
        "SITE/acme_plugin.py:1",
        "ModuleNotFoundError: No module named 'acme_sdk'; install acme_sdk where the gateway is installed",
    ),
    Mistake(
        "an entry point of another module",
        {"value": "acme_plugins.flag"},
        "entry point acme = acme_plugins.flag",
        f"ModuleNotFoundError: No module named 'acme_plugins'; {LACKS_MODULE}",
    ),
    Mistake(
        "an entry point that is no module",
        {"value": "acme_plugin:meter"},
        "entry point acme = acme_plugin:meter",
        "is no module, but function; name its module: acme = acme_plugin",
    ),
    Mistake(
        "an entry point with a wrong name in the module",
        {"value": "acme_plugin:flag"},
        "entry point acme = acme_plugin:flag",
        "AttributeError: module 'acme_plugin' has no attribute 'flag'",
    ),
    Mistake(
        "an entry point in the group of another kind",
        {"group": "observers"},
        "entry point acme = acme_plugin",
        "is a flag; write its entry point in the group irisgate.flags",
    ),
    Mistake(
        "the name of a built-in flag",
        {"name": "openai_chat"},
        "entry point openai_chat = acme_plugin",
        "there is one of that name already: the gateway itself; take another name",
    ),
    Mistake(
        "a route of the gateway itself",
        {"source": FLAG.replace('"POST", "/acme/v1/text"', '"GET", "/metrics"')},
        "SITE/acme_plugin.py:7",
        "GET /metrics would hide the gateway's own /metrics; take a path with the plugin's name",
    ),
    Mistake(
        "a value that is no module",
        {"value": "acme plugin!"},
        "entry point acme = acme plugin!",
        "its entry point names no module; write acme = package.module",
    ),
    Mistake(
        "a folder without `__init__.py`",
        {"value": "acme_names", "files": {"acme_names/plugin.py": FLAG}},
        "entry point acme = acme_names",
        "is a folder without __init__.py; name a module in it, such as acme = acme_names.acme",
    ),
    Mistake(
        "an observer whose function is misspelt",
        {"group": "observers", "source": OBSERVER.replace("seen", "sene")},
        "SITE/acme_plugin.py:1",
        f'is no plugin: {NEEDS}; the name of a helper begins with _; did you mean "seen" by "sene"?',
    ),
    Mistake(
        "an import that starts a thread without end",
        {"source": THREAD.format(daemon=False) + FLAG},
        "entry point acme = acme_plugin",
        'its import starts the thread "poll", without whose end the process could not end; start it with daemon=True',
    ),
)
