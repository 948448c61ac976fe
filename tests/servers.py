"""Real servers for tests: one that answers, and one that stands before it and fails on purpose."""

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def free_port() -> int:
    """A port that nobody listens on, below those that a system hands out by itself: between this look and
    the server's start, the kernel of a notebook or another test may be given any of these."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


class Server(subprocess.Popen):
    """A server and the processes it started: vLLM's engine lives on when its server gets SIGKILL."""

    def kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def start(command: list[str], port: int, log, seconds: float = 300, **environment: str) -> Server:
    """Run `python -m command` and wait until `/health` answers; the process is the caller's to end."""
    with open(log, "a") as output:
        process = Server(
            [sys.executable, "-m", *command],
            start_new_session=True,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
    deadline = time.monotonic() + seconds
    while not _healthy(port):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"{command[0]} did not come up: {Path(log).read_text()[-3000:]}")
        time.sleep(0.2)
    return process


@contextmanager
def serving(command: list[str], port: int, log, seconds: float = 300, **environment: str):
    """The same until the block ends; yields the address."""
    process = start(command, port, log, seconds, **environment)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _healthy(port: int) -> bool:
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).status == 200
    except (OSError, http.client.HTTPException):
        return False


class FaultyProxy:
    """Passes requests on to a real server, but first fails each prompt as `faults[prompt]` says.

    A fault is an HTTP status, or "drop" (close without a word), "garbage" (success, but no JSON), "empty"
    (JSON without an answer), "cut" (half of a body), or a number of seconds to wait as a float. They are
    used up one by one; a list that ends in `...` repeats its last fault for ever.
    """

    def __init__(self, upstream: str):
        self.upstream, self.faults = upstream, {}
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict] = []
        self.peak = self._now = 0
        self._lock, self._closing = threading.Lock(), threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                proxy._handle(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self._closing.set()
        self.server.shutdown()
        self.server.server_close()

    def _next_fault(self, prompt: str):
        faults = self.faults.get(prompt, [])
        if faults[1:] == [...]:
            return faults[0]
        return faults.pop(0) if faults else None

    def _handle(self, request):
        data = request.rfile.read(int(request.headers["Content-Length"]))
        body = json.loads(data)
        prompt = body.get("prompt") or body["messages"][0]["content"]
        with self._lock:
            self.asked[prompt] += 1
            self.bodies.append(body)
            self._now += 1
            self.peak = max(self.peak, self._now)
            fault = self._next_fault(prompt)
        try:
            self._answer(request, data, fault)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client has given up waiting
        finally:
            with self._lock:
                self._now -= 1

    def _answer(self, request, data: bytes, fault):
        closed = isinstance(fault, float) and self._closing.wait(fault)
        if closed or fault == "drop":
            request.close_connection = True
            return
        if isinstance(fault, int):
            # how long to wait is the server's to say; without it the client waits half a second
            return _send(request, fault, b'{"error":\n {"message": "on purpose"}}', {"retry-after-ms": "20"})
        if fault == "garbage":
            return _send(request, 200, b"<html>busy</html>")
        if fault == "empty":
            return _send(request, 200, b'{"choices": []}')
        status, answer = self._upstream(request, data)
        if fault == "cut":
            request.close_connection = True
            return _send(request, status, answer[: len(answer) // 2], {"Content-Length": str(len(answer))})
        return _send(request, status, answer)

    def _upstream(self, request, data: bytes) -> tuple[int, bytes]:
        onward = urllib.request.Request(
            self.upstream + request.path, data, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(onward) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


def _send(request, status: int, body: bytes, headers: dict[str, str] | None = None):
    request.send_response(status)
    for name, value in {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body)


class ScriptedServer:
    """Answers each chat question as `script(body, question, times asked)` says: a status and a body."""

    def __init__(self, script: Callable[[dict, str, int], tuple[int, dict]]):
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict] = []
        served, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                question = body["messages"][-1]["content"]
                with lock:
                    served.asked[question] += 1
                    served.bodies.append(body)
                status, answer = script(body, question, served.asked[question])
                _send(self, status, json.dumps(answer).encode(), {"retry-after-ms": "20"})

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def said(content, finish_reason="stop", tokens=5, **message) -> tuple[int, dict]:
    """What a server sends with an answer."""
    choice = {"index": 0, "finish_reason": finish_reason}
    choice["message"] = {"role": "assistant", "content": content, **message}
    return 200, {"choices": [choice], "usage": {"completion_tokens": tokens}}


def refused(status, message, **more) -> tuple[int, dict]:
    """What a server sends in place of one."""
    return status, {"error": {"message": message, **more}}
