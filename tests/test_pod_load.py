"""The load of a client pod, with its script run on this machine."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from meshproof.clients.kubernetes.client import ExecResult
from meshproof.core.errors import NotReady
from meshproof.core.waiting import pause
from meshproof.load.generator import Load
from meshproof.load.history import Mark, RequestOutcome, Window
from meshproof.load.pod_generator import PodLoad, lateness, parse_notes
from tests.fakes import LocalKube, pod, row

CLIENT = pod("client")
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="this machine has no curl")


class Application(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        failing = self.path.startswith("/failing")
        self.send_response(503 if failing else 200)
        self.send_header("x-app-version", "v1")
        self.send_header("x-meshproof-flags", "UF,URX" if failing else "-")
        self.send_header("x-meshproof-attempts", "3" if failing else "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def application() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Application) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@needs_curl
def test_a_pod_sends_at_its_rate_and_reports_the_results(application: str) -> None:
    load = PodLoad(
        LocalKube(),
        CLIENT,
        {"good": f"{application}/", "bad": f"{application}/failing", "none": "http://127.0.0.1:1/"},
    )
    begin = Mark.now()
    with Load({}, rate=20, pods=[load], responders={"v1": "east"}) as everything:
        pause(1.0)
    history, window = everything.history, Window(begin_s=begin.monotonic_s, end_s=Mark.now().monotonic_s)
    assert everything.sources == ("good", "bad", "none")
    for source, outcome in (
        ("good", RequestOutcome.ANSWERED),
        ("bad", RequestOutcome.REFUSED),
        ("none", RequestOutcome.LOST),
    ):
        sent = history.sent_in(window, sources=(source,))
        assert 10 <= len(sent) <= 30
        assert {request.outcome for request in sent} == {outcome}
    (good, *_), (bad, *_), (none, *_) = (history.sent_in(window, sources=(s,)) for s in ("good", "bad", "none"))
    assert (good.version, good.cluster, good.flags, good.attempts, good.status) == ("v1", "east", "-", 1, 200)
    assert (bad.version, bad.flags, bad.attempts, bad.status) == ("", "UF,URX", 3, 503)
    assert none.status == 0
    assert "onnect" in none.error


def test_lateness_of_a_pod_is_reported_by_loop() -> None:
    sent = {(0, 1): 10.0, (0, 2): 10.2, (0, 3): 11.7, (0, 4): 11.7, (1, 1): 10.0, (1, 2): 10.21, (2, 2): 50.0}
    assert {loop: round(late, 2) for loop, late in lateness(sent, 0.2).items()} == {0: 1.3, 1: 0.01}


class LostKube(LocalKube):
    """Starts commands, and does not respond afterwards."""

    def exec(self, namespace: str, pod: str, argv: object, **more: object) -> ExecResult:
        if "grep -c" in str(argv):
            raise NotReady("exec", "the connection was cut")
        return ExecResult(stdout="meshproof now 12345\n", stderr="", exit_code=0)


def test_what_cannot_be_fetched_is_unknown_and_never_a_success() -> None:
    load = PodLoad(LostKube(), CLIENT, {"client": "http://127.0.0.1:1/"})
    with Load({}, rate=10, pods=[load]) as everything:
        pause(0.5)
    outcomes = [request.outcome for request in everything.history]
    assert 4 <= len(outcomes) <= 7
    assert set(outcomes) == {RequestOutcome.UNKNOWN}
    assert "the connection was cut" in load.trouble


class ForgetfulKube(LostKube):
    """A pod whose container was started again in between."""

    def exec(self, namespace: str, pod: str, argv: object, **more: object) -> ExecResult:
        if "grep -c" in str(argv):
            return ExecResult(stdout="", stderr="", exit_code=96)
        return super().exec(namespace, pod, argv, **more)


def test_requests_of_a_pod_that_lost_its_results_are_unknown() -> None:
    load = PodLoad(ForgetfulKube(), CLIENT, {"client": "http://127.0.0.1:1/"})
    load.start(10)
    stopped = Mark.now()
    found = load.finish(stopped.at(stopped.monotonic_s + 1))
    assert 9 <= len(found) <= 11
    assert {request.end for request in found} == {None}
    assert "was it restarted?" in load.trouble


def test_truncated_results_are_ignored() -> None:
    end = row(200, x_app_version="v1", x_meshproof_flags="-", x_meshproof_attempts="1")
    text = f"S 0 1 1000\nS 0 2 1020\nR 0 1 {end}\nR 0 2 {end[:12]}"
    sent, ended = parse_notes(text)
    assert sent == {(0, 1): 10.0, (0, 2): 10.2}
    assert [*ended] == [(0, 1)]
    assert ended[0, 1].latency_s == 0.004
