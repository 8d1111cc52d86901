"""Chromium without a window, spoken to over its DevTools pipe (``--remote-debugging-pipe``): JSON messages
that end with a zero byte, on descriptors 3 and 4. Nothing of it is reached over a network.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self

from lab import process
from lab.deadline import Deadline
from lab.errors import LabError
from lab.process import tail

#: What the browser is called, in order of preference.
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
#: Seconds for the browser to start, and for one answer; its first start reads all of itself from the disk.
START, ANSWER = 60.0, 30.0
Scheme = Literal["light", "dark"]
#: Moves two descriptors to where the browser looks for them, and becomes the browser.
_MOVE = """
import fcntl, os, sys
reads, writes = (fcntl.fcntl(int(word), fcntl.F_DUPFD, 10) for word in sys.argv[1:3])
os.dup2(reads, 3)
os.dup2(writes, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find() -> str:
    """The browser of this machine; LabError names the remedy."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        raise LabError("there is no Chromium on this machine", hint="lab/bootstrap.sh browser installs it")
    return found


class Browser:
    """One browser with one page. Use as a context manager."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._number = 0
        self._session = ""
        self._rest = b""
        #: What the page asked for and was told, since the last :meth:`open`.
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            profile = stack.enter_context(tempfile.TemporaryDirectory(prefix="exalab-browser-"))
            to_browser, self._out = os.pipe()
            self._in, from_browser = os.pipe()
            for fd in (self._out, self._in):
                stack.callback(os.close, fd)
            self._log = log = Path(profile) / "log"
            options = (
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",  # the bench runs as root, and the page is ours
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--no-first-run",
                f"--user-data-dir={profile}/data",
                "about:blank",
            )
            argv = [sys.executable, "-c", _MOVE, str(to_browser), str(from_browser), find(), *options]
            self._process = stack.enter_context(
                process.spawn(argv, name="chromium", log=log, pass_fds=(to_browser, from_browser))
            )
            os.close(to_browser)
            os.close(from_browser)
            targets = self._call("Target.getTargets", START)["targetInfos"]
            page = next(one["targetId"] for one in targets if one["type"] == "page")
            told = self._call("Target.attachToTarget", ANSWER, targetId=page, flatten=True)
            self._session = told["sessionId"]
            for domain in ("Page", "Network", "Runtime", "Log"):
                self.call(f"{domain}.enable")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command to the page. LabError: what the browser has against it."""
        return self._call(method, ANSWER, **params)

    def _call(self, method: str, seconds: float, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        limit = Deadline(f"the browser's answer to {method}", seconds)
        while True:
            answer = self._read(limit)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise LabError(f"the browser refuses {method}: {answer['error'].get('message')}")
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self, limit: Deadline) -> dict[str, Any]:
        while b"\0" not in self._rest:
            limit.wait_readable([self._in], [self._process])
            part = os.read(self._in, 1 << 20)
            if not part:
                raise LabError("the browser closed its pipe", hint=tail(self._log))
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message

    # --- what the tests do ----------------------------------------------------------------------------------

    def open(self, path: Path, fragment: str = "") -> None:
        """Load a file, and wait until it is there."""
        # From elsewhere: to another place of the same page the browser only scrolls.
        for url in ("about:blank", path.resolve().as_uri() + fragment):
            self.events.clear()
            self.call("Page.navigate", url=url)
            limit = Deadline(f"{url} is loaded", ANSWER)
            while not any(one["method"] == "Page.loadEventFired" for one in self.events):
                self._read(limit)

    def size(self, width: int, height: int = 900, phone: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    def media(self, scheme: Scheme = "light", kind: str = "") -> None:
        """The reader's preference; ``kind`` print: as on paper."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=kind, features=features)

    def scripts(self, on: bool) -> None:
        self.call("Emulation.setScriptExecutionDisabled", value=not on)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise LabError(f"in the page: {told['exceptionDetails'].get('exception', told)}")
        return told["result"].get("value")

    def key(self, key: str, code: int, text: str = "", shift: bool = False) -> None:
        """Press and let go a key."""
        given: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **given)
        self.call("Input.dispatchKeyEvent", type="keyUp", **given)

    def picture(self, path: Path, height: int | None = None) -> None:
        """What is shown, as PNG; ``height``: from the top of the page so far down."""
        more: dict[str, Any] = {}
        if height is not None:
            width = self.ask("document.documentElement.clientWidth")
            clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
            more = {"clip": clip, "captureBeyondViewport": True}
        told = self.call("Page.captureScreenshot", format="png", **more)
        path.write_bytes(base64.b64decode(told["data"]))

    def paper(self) -> bytes:
        """The page printed, as PDF."""
        told = self.call("Page.printToPDF", printBackground=False, preferCSSPageSize=True)
        return base64.b64decode(told["data"])
