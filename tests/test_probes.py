"""Probes against servers on this machine, with the programs that would run in the client pod."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.client import RemoteDisconnected
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import requests
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError, ReadTimeoutError

from meshproof.clients.kubernetes.client import ExecResult
from meshproof.core.errors import Broken, NotReady
from meshproof.core.waiting import pause
from meshproof.load.generator import DEFAULT, ingress_sender
from meshproof.pki.issue import make_intermediate, make_root, make_workload, pem_of
from meshproof.pki.verify import spiffe_ids
from meshproof.probes import http_batch as calls
from meshproof.probes import pod_script
from meshproof.probes.answers import words
from meshproof.probes.http import (
    answer_of,
    dialling,
    get,
    http_from_pod,
    http_from_runner,
    plain_http_from_pod,
    plain_session,
)
from meshproof.probes.http_batch import HttpCall
from meshproof.probes.http_bodies import bodies_from_pod
from meshproof.probes.pod_script import Output, parse, parse_curl, parse_curls
from meshproof.probes.tcp import parse_tcp, tcp_from_pod, tcp_from_runner
from meshproof.probes.tls import Hello, sni_of, tls_from_pod
from tests.fakes import LocalKube, pod, row

CLIENT = pod("client")
SPIFFE = "spiffe://cluster.local/ns/meshproof-app/sa/mockshop"

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="this machine has no curl")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="this machine has no openssl")


@contextmanager
def tls_server(folder: Path, *, requests_client_certificate: bool, serves: bool = True) -> Iterator[int]:
    """A TLS server with a workload's certificate; without `serves` it drops every connection unanswered."""
    root = make_root()
    chain, key = make_workload(make_intermediate(root, locality="cluster2"), SPIFFE)
    (folder / "chain.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(key)
    (folder / "root.pem").write_bytes(pem_of(root.cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    context.set_alpn_protocols(["istio"])
    if requests_client_certificate:
        context.load_verify_locations(folder / "root.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                if serves:
                    try:
                        with context.wrap_socket(connection, server_side=True) as wrapped:
                            wrapped.settimeout(2)
                            wrapped.recv(1)
                    except OSError:
                        pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


class Shop(BaseHTTPRequestHandler):
    """Keeps connections open as a gateway does, and notes the caller's port, which tells them apart."""

    protocol_version = "HTTP/1.1"
    callers: ClassVar[list[int]] = []
    heard: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        self.callers.append(self.client_address[1])
        self.heard.append({name.lower(): text for name, text in self.headers.items() if name != "User-Agent"})
        self.send_response(503 if self.path.endswith("n=2") else 302 if self.path == "/leave" else 200)
        self.send_header("x-app-version", "v1")
        if self.path == "/leave":
            self.send_header("location", "/")
            self.send_header("set-cookie", "bound=v1; Path=/")
        self.close_connection = self.path == "/last"
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def shop() -> Iterator[int]:
    Shop.callers.clear()
    Shop.heard.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(5)


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_the_sni_of_a_service_is_istios() -> None:
    assert sni_of("mockshop", "meshproof-app", 80) == "outbound_.80_._.mockshop.meshproof-app.svc.cluster.local"


def test_tcp_from_the_runner_tells_open_from_refused(shop: int, closed_port: int) -> None:
    opened, refused = tcp_from_runner([("127.0.0.1", shop), ("127.0.0.1", closed_port)])
    assert opened.accepted
    assert str(refused) == f"127.0.0.1:{closed_port} does not accept TCP (connection refused)"


@needs_curl
def test_tcp_from_a_pod_counts_the_handshake_and_not_what_is_spoken(shop: int, closed_port: int) -> None:
    """The shop answers with whatever it likes; what counts is that TCP was accepted."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = (shop, closed_port, silent.getsockname()[1])
        found = tcp_from_pod(LocalKube(), CLIENT, [("127.0.0.1", port) for port in ports], timeout_s=1)
    assert [answer.accepted for answer in found] == [True, False, True]
    assert "connect" in found[1].reason


def test_a_pod_that_says_nothing_is_our_failure() -> None:
    with pytest.raises(Broken, match="no output from curl"):
        parse_tcp("sh: curl: not found\n", "192.0.2.1", 15443)


def hello(port: int, *, sni: str | None = None, alpn: str | None = None) -> Hello:
    return Hello(address="127.0.0.1", port=port, sni=sni, alpn=alpn)


@needs_openssl
@pytest.mark.parametrize("requests_client_certificate", [True, False])
def test_tls_from_a_pod_shows_the_chain_and_the_demand(tmp_path: Path, requests_client_certificate: bool) -> None:
    with tls_server(tmp_path, requests_client_certificate=requests_client_certificate) as port:
        (answer,) = tls_from_pod(LocalKube(), CLIENT, [hello(port, sni="shop.local", alpn="istio")])
    assert [spiffe_ids(cert) for cert in answer.chain] == [(SPIFFE,), (), ()]
    assert answer.requests_client_certificate is requests_client_certificate


@needs_openssl
def test_tls_from_a_pod_says_why_there_is_no_certificate(tmp_path: Path, closed_port: int) -> None:
    with tls_server(tmp_path, requests_client_certificate=False, serves=False) as port:
        dropped, refused = tls_from_pod(LocalKube(), CLIENT, [hello(port), hello(closed_port)])
    assert not dropped.completed
    assert str(dropped).startswith("refused (")
    assert "refused" in refused.reason.lower()


@needs_openssl
def test_tls_from_a_pod_does_not_wait_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (answer,) = tls_from_pod(LocalKube(), CLIENT, [hello(silent.getsockname()[1])], timeout_s=0.5)
    assert answer.reason == "did not finish within 0.5 s"


@needs_curl
def test_a_batch_from_a_pod_is_told_request_by_request(shop: int) -> None:
    answers = http_from_pod(LocalKube(), CLIENT, f"http://127.0.0.1:{shop}/", 3)
    assert [(answer.status, answer.version, answer.outcome) for answer in answers] == [
        (200, "v1", "v1"),
        (503, "v1", "HTTP 503"),
        (200, "v1", "v1"),
    ]
    assert all(0 < answer.seconds < 5 for answer in answers)


@needs_curl
def test_a_batch_ends_with_the_first_request_that_gets_no_answer(closed_port: int) -> None:
    answers = http_from_pod(LocalKube(), CLIENT, f"http://127.0.0.1:{closed_port}/", 2)
    assert [answer.status for answer in answers] == [0]
    assert all("connect" in answer.error for answer in answers)
    assert plain_http_from_pod(LocalKube(), CLIENT, "127.0.0.1", closed_port).status == 0


@needs_curl
def test_a_batch_that_is_not_told_completely_is_our_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_script, "_CURL", ("curl", "-s"))
    with pytest.raises(NotReady, match="curl reported 0"):
        http_from_pod(LocalKube(), CLIENT, "http://127.0.0.1:1/", 2)


@needs_curl
@needs_openssl
def test_a_gateway_is_asked_at_its_address_for_a_host_that_no_dns_knows(shop: int, echo: int) -> None:
    answers = http_from_pod(LocalKube(), CLIENT, f"http://shop.invalid:{shop}/", 3, through="127.0.0.1")
    assert [answer.status for answer in answers] == [200, 503, 200]
    (bodies,) = bodies_from_pod(LocalKube(), CLIENT, [f"http://shop.invalid:{echo}/"], (10,), through="127.0.0.1")
    assert [(body.server, body.problem) for body in bodies] == [("echo", None)]
    assert dialling("fd00::1") == ["--connect-to", "::[fd00::1]:"]


def test_rows_of_curl_are_parsed() -> None:
    answered = parse_curl(row(200, x_app_version="v1 ", grpc_status="0"))
    assert (answered.status, answered.seconds, answered.connect_s, answered.error) == (200, 0.004, 0.001, "")
    assert (answered.headers["x-app-version"], answered.headers["grpc-status"]) == ("v1", "0")
    assert parse_curl(row(0, code=28, message="Operation timed out; really")).error == "Operation timed out; really"
    assert parse_curl(row(0, code=28)).error == "curl exit code 28"


def test_a_curl_that_is_too_old_is_named() -> None:
    for text in ("curl: not found", row(200, x_app_version="%header{x-app-version}"), row(200).rpartition("\t")[0]):
        with pytest.raises(Broken, match=r"unexpected line .*\n.*needs curl 7\.84 or newer"):
            parse_curl(text)


def test_requests_end_early_only_with_one_that_got_no_answer() -> None:
    lost = row(0, code=7, message="refused")
    rows = Output(text=f"{row(200)}\n{lost}\n", exit_code=7)
    assert [result.status for result in parse_curls(rows, 3, "3 requests")] == [200, 0]
    with pytest.raises(NotReady, match=r"3 requests: curl reported 1 \(exit code 137\)"):
        parse_curls(Output(text=f"{row(200)}\n", exit_code=137), 3, "3 requests")


@pytest.mark.parametrize("shell", [("sh",), ("busybox", "sh")])
def test_commands_run_at_the_same_time_and_are_reported_in_their_order(shell: tuple[str, ...]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"this machine has no {shell[0]}")
    commands = ["sleep 1; echo first; echo aside >&2", "sleep 1; printf 'no line end' | tee kept; false", "sleep 1"]
    commands += [f"sleep 1; echo {number}" for number in range(10)]
    text = pod_script.script(commands, then=["cat kept", "cat given"], files=True)
    begin = time.monotonic()
    done = subprocess.run(
        [*shell, "-c", text],
        input=pod_script.stdin_of({"given": "a\r\n b\n"}).encode(),
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert time.monotonic() - begin < 5
    first, second, silent, *others, kept, given = parse(done.stdout.decode())
    assert first == Output(text="first\naside\n", exit_code=0)
    assert second == Output(text="no line end", exit_code=1)
    assert silent == Output(text="", exit_code=0)
    assert [output.text for output in others] == [f"{number}\n" for number in range(10)]
    assert (kept.text, given.text) == ("no line end", "a\r\n b\n")


def test_a_script_that_cannot_begin_is_our_failure() -> None:
    class ReadOnly(LocalKube):
        def exec(self, *args: object, **more: object) -> ExecResult:
            return ExecResult(stdout="", stderr="mkdir: read-only file system\n", exit_code=97)

    with pytest.raises(NotReady) as caught:
        pod_script.run(ReadOnly(), CLIENT, ["true"], what="2 calls", timeout_s=5, needs="the image needs sh")
    assert str(caught.value) == (
        "2 calls from ns/client on local: 0 of 1 commands reported (exit code 97): 'mkdir: read-only file system'\n"
        "  repair: the image needs sh"
    )


def test_a_row_without_a_version_is_an_answer_without_one() -> None:
    assert answer_of(parse_curl(row(200))).outcome == "a response without x-app-version"


def test_the_ingress_is_asked_for_the_shop(shop: int) -> None:
    told = ingress_sender("127.0.0.1", DEFAULT, keep=False, port=shop, timeout_s=2)()
    assert (told.status, told.version, told.error) == (200, "v1", "")


def test_a_load_keeps_its_connections_or_opens_new_ones_and_a_sample_keeps_a_few_in_turn(shop: int) -> None:
    for keep, connections in ((False, 3), (True, 1)):
        Shop.callers.clear()
        ask = ingress_sender("127.0.0.1", DEFAULT, keep=keep, port=shop, timeout_s=2)
        for _ in range(3):
            ask()
        assert len(set(Shop.callers)) == connections
    Shop.callers.clear()
    assert [answer.version for answer in http_from_runner("127.0.0.1", 8, port=shop)] == ["v1"] * 8
    assert len(set(Shop.callers)) == 4
    assert Shop.callers[:4] == Shop.callers[4:]


def test_a_plain_session_has_no_cookie_no_proxy_and_follows_nothing(
    shop: int, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port}")
    with plain_session() as session:
        for _ in range(2):
            answer = get(session, "127.0.0.1", host="shop.local", path="/leave", port=shop, timeout_s=2)
            assert (answer.status_code, answer.headers["set-cookie"]) == (302, "bound=v1; Path=/")
    assert Shop.heard[-1] == {"host": "shop.local", "accept-encoding": "identity"}


def test_a_connection_that_was_closed_while_idle_is_opened_again(shop: int) -> None:
    """A gateway may close what it does not use; no request was lost by that."""
    with plain_session() as session:
        for _ in range(2):
            answer = get(session, "127.0.0.1", host="shop.local", path="/last", port=shop, timeout_s=2)
            assert answer.status_code == 200
            pause(0.1)
    assert len(set(Shop.callers)) == 2


def test_a_connection_that_ends_without_an_answer_is_closed_and_not_reset() -> None:
    assert words(RemoteDisconnected("Remote end closed connection without response")) == "connection closed"
    assert words(ConnectionResetError(104, "Connection reset by peer")) == "connection reset"


def test_errors_of_requests_are_their_reason_alone() -> None:
    away = NewConnectionError(HTTPConnection("10.0.0.1"), "Failed to establish a new connection: [Errno 113] No route")
    failed = requests.ConnectionError(MaxRetryError(HTTPConnectionPool("10.0.0.1"), "/", away))
    assert words(failed) == "[Errno 113] No route"
    assert words(requests.ReadTimeout(ReadTimeoutError(HTTPConnectionPool("h"), "/", "Read timed out."))) == "timed out"
    ended = ProtocolError("Connection aborted.", RemoteDisconnected("Remote end closed connection without response"))
    assert words(requests.ConnectionError(ended)) == "connection closed"
    reset = ProtocolError("Connection aborted.", ConnectionResetError(104, "Connection reset by peer"))
    assert words(requests.ConnectionError(reset)) == "connection reset"


def test_errors_of_the_ingress_are_the_same_words_each_time(closed_port: int) -> None:
    ask = ingress_sender("127.0.0.1", DEFAULT, keep=False, port=closed_port, timeout_s=2)
    first, second = ask(), ask()
    assert first.error == second.error == "connection refused"


# -- calls ------------------------------------------------------------------------------------------------------------


@needs_curl
def test_each_call_ends_with_its_first_request_without_an_answer(shop: int, closed_port: int) -> None:
    """The others go on; an error that was answered (the shop's second is 503) ends nothing."""
    served, refused = (
        HttpCall(url=f"http://127.0.0.1:{shop}/", count=3),
        HttpCall(url=f"http://127.0.0.1:{closed_port}/"),
    )
    many = [served, replace(refused, count=5), replace(served, fresh=True), replace(refused, count=5, fresh=True)]
    replies = calls.http_calls_from_pod(LocalKube(), CLIENT, many)
    assert [[reply.status for reply in got] for got in replies] == [[200, 503, 200], [0], [200, 503, 200], [0]]
    assert len(set(Shop.callers)) == 4, "one connection for the first call, one for each request of the third"
    assert replies[1][0].error


@needs_openssl
def test_bodies_go_to_every_url_and_end_where_nobody_answers(echo: int, closed_port: int) -> None:
    urls = [f"http://127.0.0.1:{port}/" for port in (echo, closed_port)]
    back, lost = bodies_from_pod(LocalKube(), CLIENT, urls, (10, 2000))
    assert [(body.size, body.server, body.problem) for body in back] == [(10, "echo", None), (2000, "echo", None)]
    assert [body.size for body in lost] == [10]
    assert lost[0].problem


@needs_openssl
@pytest.mark.skipif(not shutil.which("busybox"), reason="no busybox here")
def test_what_a_refusal_says_can_be_read(echo: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lab's client image has busybox, whose tr knows no character classes."""
    (tmp_path / "tr").symlink_to(str(shutil.which("busybox")))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    ((refused,),) = bodies_from_pod(LocalKube(), CLIENT, [f"http://127.0.0.1:{echo}/refused"], (10,))
    assert refused.problem == "10 bytes: HTTP 503, no healthy upstream"


class Echo(BaseHTTPRequestHandler):
    """Answers with what it got, or with a refusal."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        refused = self.path == "/refused"
        if refused:
            body = b"no healthy upstream\n"
        self.send_response(503 if refused else 200)
        self.send_header("x-app-version", "echo")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def echo() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(5)
