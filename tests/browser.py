"""A real headless Chromium, driven by the Chrome DevTools Protocol: https://chromedevtools.github.io/devtools-protocol/

It has no network to speak of: whatever a page asks for is on record.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--hide-scrollbars",
    "--mute-audio",
)
_PATIENCE = 30.0  # seconds, on a machine that is busy with other tests


def chromium() -> str:
    """The program; skips the test when there is none."""
    found = os.environ.get("TOKOPT_TEST_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("install chromium, or name it in TOKOPT_TEST_CHROMIUM, to test in a browser")
    return found


class Browser:
    """One running Chromium; pages are opened in it, each with a profile of its own."""

    def __init__(self, folder: Path) -> None:
        websocket = pytest.importorskip("websockets.sync.client", reason="install websockets to test in a browser")
        # Chromium refuses to sandbox for root, as which containers run.
        alone = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            [chromium(), *_FLAGS, *alone, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._open = ExitStack()
        try:
            port, path = self._address(folder / "DevToolsActivePort")
            url = f"ws://127.0.0.1:{port}{path}"
            # Without pings: they take random numbers while other tests run, which Hypothesis notices.
            connected = websocket.connect(url, max_size=None, proxy=None, ping_interval=None)
            self._socket = self._open.enter_context(connected)
        except BaseException:
            self._stop()
            raise
        self._last = 0
        self._pages: dict[str, Page] = {}

    def _address(self, file: Path) -> tuple[int, str]:
        """Where it listens: it writes that down as soon as it does."""
        ends = time.monotonic() + _PATIENCE
        while time.monotonic() < ends:
            if self._process.poll() is not None:
                pytest.skip(f"chromium does not run here: it ended with {self._process.returncode}")
            lines = file.read_text().split("\n") if file.exists() else []
            if len(lines) >= 2:
                return int(lines[0]), lines[1]
            time.sleep(0.02)
        raise TimeoutError("chromium did not say where it listens")

    def send(self, method: str, params: dict[str, Any] | None = None, session: str | None = None) -> Any:
        """The result of one command. What happens in the meantime goes to the page that it belongs to."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params or {}}
        if session is not None:
            message["sessionId"] = session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=_PATIENCE))
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        page = self._pages.get(event.get("sessionId", ""))
        if page is not None and "method" in event:
            page.events.append((event["method"], event["params"]))

    @contextmanager
    def page(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Page]:
        """An empty page with nothing in its storage."""
        context = self.send("Target.createBrowserContext")["browserContextId"]
        target = self.send("Target.createTarget", {"url": "about:blank", "browserContextId": context})["targetId"]
        session = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.send(f"{domain}.enable")
        page.resize(width, height)
        page.prefer(dark=dark)
        try:
            yield page
        finally:
            self.send("Target.disposeBrowserContext", {"browserContextId": context})
            del self._pages[session]

    def close(self) -> None:
        """End it, and wait until it has ended."""
        try:
            self.send("Browser.close")
            self._open.close()
        finally:
            self._stop()

    def _stop(self) -> None:
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Page:
    """One page. `events` is what the protocol told of it, in order."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.events: list[tuple[str, dict[str, Any]]] = []

    def send(self, method: str, **params: Any) -> Any:
        return self._browser.send(method, params, self._session)

    def open(self, url: str, *, ready: str = "document.documentElement?.dataset.ready === 'yes'") -> None:
        """Go there, and wait until the page says that it is ready."""
        self.send("Page.navigate", url=url)
        self.wait(f"location.href === {json.dumps(url)} && {ready}")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression: str) -> Any:
        """The value of the expression as soon as it is true."""
        ends = time.monotonic() + _PATIENCE
        while time.monotonic() < ends:
            if found := self.run(expression):
                return found
            time.sleep(0.02)
        raise TimeoutError(f"never true: {expression}\n{self.problems()}")

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release one key, such as "Tab", "Enter", "Escape" or "ArrowRight"."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "End": 35, "Home": 36}
        codes |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        text = {"Enter": {"text": "\r"}, " ": {"text": " "}}.get(key, {})
        given = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key], "modifiers": 8 if shift else 0}
        self.send("Input.dispatchKeyEvent", type="keyDown", **given, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **given)

    def resize(self, width: int, height: int) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )

    def prefer(self, *, dark: bool = False, still: bool = True, media: str = "") -> None:
        """What the viewer has set, and the medium ("print")."""
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        self.send("Emulation.setEmulatedMedia", media=media, features=features)

    def picture(self, file: Path, *, whole: bool = False) -> None:
        """What it looks like, as a PNG file; `whole` takes what lies below the window, too."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))

    def requested(self) -> list[str]:
        """The URL of everything that was asked for."""
        return [params["request"]["url"] for method, params in self.events if method == "Network.requestWillBeSent"]

    def problems(self) -> list[str]:
        """Errors and warnings, as the console shows them: exceptions, violations of the policy, what did not load."""
        self.run("0")  # what happened until now has been told before this is answered
        found = []
        for method, params in self.events:
            if method == "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                found.append(f"{details['text']} {details.get('exception', {}).get('description', '')}")
            elif method == "Runtime.consoleAPICalled":
                found.append(f"{params['type']}: {params['args']}")
            elif method == "Log.entryAdded":
                found.append(f"{params['entry']['level']}: {params['entry']['text']}")
        return found
