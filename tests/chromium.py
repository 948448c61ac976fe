"""Chromium over its DevTools protocol: as much of it as `test_browser.py` needs.

Talks to the browser itself, so that there is no driver to install and to keep in step with it.
"""

import http.client
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import websocket

from thinkless.book.formats import BROWSERS

CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
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

FONTCONFIG = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{fonts}</dir><cachedir>{cache}</cachedir></fontconfig>
"""


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Poll until `condition` returns something true and return it."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE} s in vain for {what}")
        time.sleep(0.05)
    return value


class Chromium:
    """A headless browser with an empty profile that can resolve no name but 127.0.0.1.

    It knows the system's fonts, or, where there is fontconfig, those of `font_folder` only.
    """

    def __init__(self, folder: Path, font_folder: Path | None = None):
        environment = dict(os.environ)
        if font_folder:
            environment["FONTCONFIG_FILE"] = str(folder / "fonts.conf")
            (folder / "fonts.conf").write_text(FONTCONFIG.format(fonts=font_folder, cache=folder))
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
            env=environment,
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
        (result,) = self.send_all(method, [parameters])
        return result

    def send_all(self, method: str, calls: Iterable[dict], unless: str | None = None) -> list[dict]:
        """Send a command once for each set of parameters, without waiting in between.

        The result of a call whose error says `unless` is empty.
        """
        numbers = []
        for parameters in calls:
            numbers.append(next(self.numbers))
            self.socket.send(json.dumps({"id": numbers[-1], "method": method, "params": parameters}))
        return [self._result(method, number, unless) for number in numbers]

    def _result(self, method: str, number: int, unless: str | None) -> dict:
        while (message := json.loads(self.socket.recv())).get("id") != number:
            self.events.append(message)
        if "error" in message:
            if unless and unless in message["error"]["message"]:
                return {}
            raise RuntimeError(f"{method}: {message['error']['message']}")
        return message["result"]

    def run(self, javascript: str) -> Any:
        """Value of a JavaScript expression; promises are awaited."""
        answer = self.send("Runtime.evaluate", expression=javascript, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", javascript))
        return answer["result"].get("value")

    def fonts(self) -> Iterator[tuple[str, list[dict]]]:
        """The text of every element that has one, icons included, and the fonts that it is drawn in."""
        self.send("DOM.enable")
        self.send("CSS.enable")
        root = self.send("DOM.getDocument", depth=-1)["root"]
        texts = {node["nodeId"]: text for node in nodes(root) if (text := own_text(node))}
        asked = ({"nodeId": number} for number in texts)
        gone = "Could not find node"  # a live page has replaced it meanwhile
        answers = self.send_all("CSS.getPlatformFontsForNode", asked, unless=gone)
        for text, answer in zip(texts.values(), answers, strict=True):
            if answer:
                yield text, answer["fonts"]

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
        first = self.send(
            "Page.addScriptToEvaluateOnNewDocument",
            source=f"if (['http:', 'file:'].includes(location.protocol)) {{ {remember} }}",
        )
        self.run("document.left = true")  # for the answer may come before the old page has gone
        self.send("Page.navigate", url=address)
        there = f"!document.left && location.href.startsWith({address!r}) && {READY}"
        wait_for(lambda: self.run(there), f"{address} to load")
        self.send("Page.removeScriptToEvaluateOnNewDocument", **first)

    def close(self):
        """Close the tab."""
        self.send("Page.close")
        self.socket.close()


def nodes(node: dict) -> Iterator[dict]:
    """A node of the DOM and everything below it, but for the formulas that only screen readers get."""
    if node["nodeName"].lower() == "mjx-assistive-mml":
        return
    yield node
    for child in node.get("children", []):
        yield from nodes(child)


def own_text(element: dict) -> str:
    """The text right inside an element; if there is none, the names of its pseudo-elements."""
    texts = [child["nodeValue"] for child in element.get("children", []) if child["nodeName"] == "#text"]
    pseudo = [f"::{child['pseudoType']}" for child in element.get("pseudoElements", [])]
    return " ".join(" ".join(texts).split()) or " ".join(pseudo)
