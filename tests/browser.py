"""A headless Chromium that tests drive through its DevTools protocol, over two pipes: no port, no package."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 60
"""Seconds to wait for an answer."""


def find_chromium():
    """The program: that of NANOTX_CHROMIUM, or one on the path; None if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("NANOTX_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


class Browser:
    """One page of a running Chromium."""

    def __init__(self, process, write, read):
        self.process, self.write, self.read = process, write, read
        self.last, self.buffer, self.session = 0, b"", None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.events = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        """Call a method of the protocol and return its result."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while (answer := self.receive()).get("id") != self.last:
            if "method" in answer and self.session:
                self.events.append(answer)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def receive(self):
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.read], [], [], PATIENCE)
            data = os.read(self.read, 1 << 20) if ready else b""
            if not data:
                raise AssertionError(f"the browser does not answer: {self.process.poll()}")
            self.buffer += data
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def open(self, url):
        """Go to a page and wait until it is loaded."""
        self.call("Page.navigate", url=str(url))
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, expression):
        """The value of a JavaScript expression in the page; of a promise, what it becomes."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, expression, seconds=PATIENCE):
        """Wait until an expression is true, and return it."""
        deadline = time.monotonic() + seconds
        while not (found := self.value(expression)):
            if time.monotonic() > deadline:
                raise AssertionError(f"never true: {expression}")
            time.sleep(0.02)
        return found

    def type(self, text):
        """Type a text where the focus is."""
        for character in text:
            self.call("Input.dispatchKeyEvent", type="char", text=character)

    def point(self, selector, kind="mouseMoved"):
        """Move the pointer onto the middle of an element, or press and release it there ("click")."""
        self.value(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        x, y = self.value(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        if kind == "click":
            for press in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=press, x=x, y=y, button="left", clickCount=1)

    def look(self, width, height, dark=False):
        """Set the size of the window and the colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path, **how):
        """Write a picture of the window."""
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **how)["data"]))

    def complaints(self):
        """Errors of scripts, refused and failed requests, and requests that left the file."""
        found = []
        for event in self.events:
            parameters = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(parameters["exceptionDetails"]))
            if event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                found.append(parameters["entry"]["text"])
            if event["method"] == "Network.requestWillBeSent":
                url = parameters["request"]["url"]
                if not url.startswith(("file:", "data:", "about:", "blob:")):
                    found.append(url)
        return found


@contextmanager
def chromium(profile):
    """A browser with an empty profile in a folder, which ends with the block."""
    to_browser, write = os.pipe()
    read, from_browser = os.pipe()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
    command = [find_chromium(), *flags, "--disable-dev-shm-usage", f"--user-data-dir={profile}", "about:blank"]

    def place():
        """Chromium reads the protocol from descriptor 3 and writes it to 4."""
        first, second = os.dup(to_browser), os.dup(from_browser)
        os.dup2(first, 3)
        os.dup2(second, 4)

    process = subprocess.Popen(
        command,
        preexec_fn=place,  # noqa: PLW1509  there are no threads
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Browser(process, write, read)
    finally:
        process.kill()
        process.wait()
        os.close(write)
        os.close(read)
