"""Chromium over its DevTools protocol: as much of it as `test_browser.py` needs.

Talks to the browser itself, so that there is no driver to install and to keep in step with it.
"""

import http.client
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import websocket

CHROMIUM = next(
    filter(
        None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))
    ),
    None,
)
"""The browser on the PATH, if there is one."""
PATIENCE = 120
"""Seconds after which a condition that has not come true is a failure. Never waited for in full."""

READY = """(() => {
  const formulas = [...document.querySelectorAll(".math")];
  const plots = [...document.querySelectorAll(".plotly-graph-div")];
  return document.readyState === "complete"
    && formulas.every((formula) => formula.querySelector("mjx-container"))
    && plots.every((plot) => plot._fullLayout && plot._bookLines);
})()"""
"""Whether a page of the book is complete: loaded, formulas typeset, figures drawn and painted."""


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Poll until `condition` returns something true and return it."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE} s in vain for {what}")
        time.sleep(0.05)
    return value


class Chromium:
    """A headless browser with an empty profile that can resolve no name but 127.0.0.1."""

    def __init__(self, folder: Path):
        self.process = subprocess.Popen(
            [
                CHROMIUM,
                "--headless=new",
                "--no-sandbox",  # needed in containers; the pages are our own
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--no-first-run",
                "--remote-debugging-port=0",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                f"--user-data-dir={folder}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port_file = folder / "DevToolsActivePort"
        wait_for(lambda: port_file.exists() and "\n" in port_file.read_text(), "Chromium to start")
        self.port = int(port_file.read_text().split()[0])

    def new_tab(self) -> "Tab":
        """A new, empty tab."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request("PUT", "/json/new?about:blank")
        return Tab(json.loads(connection.getresponse().read())["webSocketDebuggerUrl"])

    def close(self):
        """End the browser."""
        self.process.terminate()
        self.process.wait(timeout=PATIENCE)


class Tab:
    """One tab: send commands, collect events."""

    def __init__(self, address: str):
        self.socket = websocket.create_connection(address, timeout=PATIENCE, suppress_origin=True)
        self.numbers = itertools.count(1)
        self.events: list[dict] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters) -> dict:
        """Send a command and return its result; events that arrive meanwhile are kept."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (message := json.loads(self.socket.recv())).get("id") != number:
            self.events.append(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']['message']}")
        return message["result"]

    def run(self, javascript: str) -> Any:
        """Value of a JavaScript expression; promises are awaited."""
        answer = self.send("Runtime.evaluate", expression=javascript, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", javascript))
        return answer["result"].get("value")

    def named(self, *methods: str) -> Iterator[dict]:
        """Parameters of the events seen so far that have one of these names."""
        return (event["params"] for event in self.events if event["method"] in methods)

    def open(self, address: str, theme: str, width: int, height: int = 900):
        """Go to a page and wait until its formulas and figures are there."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        remember = f"for (const key of ['mode', 'theme']) localStorage.setItem(key, '{theme}')"
        self.send(
            "Page.addScriptToEvaluateOnNewDocument",
            source=f"if (location.protocol === 'http:') {{ {remember} }}",
        )
        self.send("Page.navigate", url=address)
        wait_for(lambda: self.run(f"location.href.startsWith({address!r}) && {READY}"), f"{address} to load")

    def close(self):
        """Close the tab."""
        self.send("Page.close")
        self.socket.close()
