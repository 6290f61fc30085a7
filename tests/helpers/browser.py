"""A headless Chromium, controlled by its DevTools protocol: https://chromedevtools.github.io/devtools-protocol."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path

import aiohttp
import pytest

from tests.helpers.waiting import eventually, eventually_without_a_loop

NAMES = ("chromium", "chromium-browser", "google-chrome")
"""The names of the Chromium program in Debian, in Alpine and from Google."""
START_SECONDS = 120
"""Maximum number of seconds for the browser to start. On a busy machine, the first start takes several seconds."""
FOREIGN_HOST = "elsewhere.example"
"""A host name that the browser resolves to this machine."""
KEY_CODES = {"Tab": 9, "Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39,
             "ArrowDown": 40}  # fmt: skip
"""Codes of keys that write no letter, from the standard UI Events."""
OPTIONS = (
    "--headless",
    "--no-sandbox",  # as root the sandbox does not start
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--no-proxy-server",
    "--remote-debugging-port=0",
    f"--host-resolver-rules=MAP {FOREIGN_HOST} 127.0.0.1",
)


def chromium() -> str:
    """Return the path of Chromium. Skip the test if it is not installed."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("chromium (of Debian's package chromium) is not installed")
    return path


_LEFT = "Inspected target navigated or closed"


class Left(Exception):
    """Raised if the tab has left the page before the browser answers a command."""


class Tab:
    """A tab of the browser. One command runs at a time."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._last = 0
        self.errors = []
        """Lines of the console about errors, and uncaught exceptions, since `watch` was called."""

    async def command(self, method, **parameters):
        """Run a command, and return its result. Until the result comes, errors of the page are stored, and other events
        are discarded.
        """
        self._last += 1
        await self._socket.send_json({"id": self._last, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json(timeout=START_SECONDS)
            self._keep_error(message.get("method"), message.get("params"))
            if message.get("id") == self._last:
                if message.get("error", {}).get("message") == _LEFT:
                    raise Left
                assert "error" not in message, message
                return message["result"]

    def _keep_error(self, method, event):
        if method == "Runtime.exceptionThrown":
            self.errors.append(event["exceptionDetails"].get("exception", event["exceptionDetails"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] == "error":
            self.errors.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and event["type"] in {"error", "assert"}:
            self.errors.append(event["args"])

    async def watch(self):
        """Begin to store the errors of pages."""
        self.errors.clear()
        await self.command("Runtime.enable")
        await self.command("Log.enable")

    async def press(self, key, *, shift=False, control=False):
        """Press and release a key, such as "Enter" or "k"."""
        modifiers = 8 * shift + 2 * control
        event = {"key": key, "modifiers": modifiers, "windowsVirtualKeyCode": KEY_CODES.get(key, ord(key[0].upper()))}
        text = {"text": "\r"} if key == "Enter" else {}
        await self.command("Input.dispatchKeyEvent", type="keyDown", **event, **text)
        await self.command("Input.dispatchKeyEvent", type="keyUp", **event)

    async def mouse(self, kind, x, y):
        """Move, press or release the mouse. `kind` is "mouseMoved", "mousePressed" or "mouseReleased"."""
        button = {"button": "left", "clickCount": 1, "buttons": 1} if kind != "mouseMoved" else {}
        await self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    async def scripts(self, allowed):
        """Allow or forbid scripts of the pages that are opened next."""
        await self.command("Emulation.setScriptExecutionDisabled", value=not allowed)

    async def screen(self, width, height=844):
        """Set the size of the screen in CSS pixels. The browser acts as a phone if the width is less than 600."""
        await self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    async def prefer(self, scheme):
        """Set the preferred colour scheme, "light" or "dark"."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.command("Emulation.setEmulatedMedia", features=features)

    async def open(self, url, headers):
        """Open a page, and return when it is loaded with its style sheets. `headers` are sent with every request."""
        await self.command("Network.enable")
        await self.command("Network.setExtraHTTPHeaders", headers=headers)
        # the reply comes when the new document has replaced the old one
        navigation = await self.command("Page.navigate", url=url)
        assert "errorText" not in navigation, navigation
        await eventually(lambda: self.evaluate("document.readyState === 'complete'"))

    async def follow(self, script):
        """Run a script that leads to another page, and return when that page is loaded."""
        await self.evaluate(f"document.documentElement.dataset.old = '1'; {script}")

        async def arrived():
            with suppress(Left):  # the answer of the old page is lost if it is left at this moment
                return await self.evaluate(
                    "document.readyState === 'complete' && !document.documentElement.dataset.old"
                )
            return False

        await eventually(arrived)

    async def evaluate(self, script):
        """Return the value of an expression of JavaScript."""
        reply = await self.command("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    async def add_style(self, css):
        """Add a style sheet to the page, even if the page's Content-Security-Policy forbids it."""
        await self.evaluate(
            f"(sheet => {{ sheet.replaceSync({json.dumps(css)}); document.adoptedStyleSheets = [sheet] }})"
            "(new CSSStyleSheet())"
        )


@asynccontextmanager
async def browser_tab():
    """Yield a tab of the browser during an `async with` block.

    All tests of a process share one browser, because a start takes a second of CPU time. Each tab has a browser context
    of its own, with its own cookies, cache and storage.
    """
    port = _port()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/version") as reply:
            address = (await reply.json())["webSocketDebuggerUrl"]
        async with session.ws_connect(address) as socket:
            browser = Tab(socket)
            context = (await browser.command("Target.createBrowserContext"))["browserContextId"]
            page = await browser.command("Target.createTarget", url="about:blank", browserContextId=context)
            try:
                address = f"ws://127.0.0.1:{port}/devtools/page/{page['targetId']}"
                async with session.ws_connect(address, max_msg_size=0) as socket_of_page:
                    yield Tab(socket_of_page)
            finally:
                await browser.command("Target.disposeBrowserContext", browserContextId=context)


def _port() -> int:
    """Return the port of the browser's DevTools. Start the browser if it is not running."""
    process, profile = _started()
    if process.poll() is not None:
        _started.cache_clear()
        process, profile = _started()
    file = profile / "DevToolsActivePort"

    def port():
        assert process.poll() is None, f"chromium ended with {process.returncode}"
        return file.is_file() and file.read_text().partition("\n")[0]

    return int(eventually_without_a_loop(port, START_SECONDS))


@cache
def _started() -> tuple[subprocess.Popen[bytes], Path]:
    """Start a browser with a new profile, and return its process and the folder of the profile.

    The browser writes its port into that folder when it is ready. It is killed when this process exits.
    """
    program, profile = chromium(), Path(tempfile.mkdtemp(prefix="chromium-"))
    process = subprocess.Popen(
        [program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    atexit.register(_end, process, profile)
    return process, profile


def _end(process: subprocess.Popen[bytes], profile: Path) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    shutil.rmtree(profile, ignore_errors=True)
