"""Callers with certificates, against a server on this machine that answers HTTP over mutual TLS."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from meshproof.core.errors import Broken, ClaimFailed
from meshproof.mesh.ca_files import CaFiles
from meshproof.pki.issue import make_intermediate, make_root, make_workload, pem_of, plugin_ca
from meshproof.pki.verify import CA_KEY, parse_chain, spiffe_ids
from meshproof.probes.mtls_clients import (
    EXPIRED,
    NOBODY,
    OTHER_DOMAIN,
    PROPER,
    WRONG_ROOT,
    Attempt,
    attempts_from_pod,
    authority_of,
    callers,
    parse_reply,
)
from meshproof.probes.pod_script import stdin_of
from tests.fakes import LocalKube, pod

CLIENT = pod("client")
ROOT = make_root()
CA = CaFiles(files=plugin_ca(ROOT, "cluster1").files())

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="this machine has no openssl")


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """Answers `HTTP 200` to whoever shows a certificate under `ROOT`."""
    chain, key = make_workload(make_intermediate(ROOT, locality="x"), "spiffe://cluster.local/ns/a/sa/b")
    for name, content in (("chain", chain), ("key", key), ("root", pem_of(ROOT.cert))):
        (folder / name).write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain", folder / "key")
    context.load_verify_locations(folder / "root")
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["istio"])
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        connection.settimeout(5)
        with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as wrapped:
            try:
                wrapped.do_handshake()
                wrapped.recv(1000)
                wrapped.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
            except OSError:
                # Closing with the caller's request unread would be a reset, which can overtake the alert.
                with suppress(OSError):
                    socket.socket.shutdown(wrapped, socket.SHUT_WR)
                    wrapped.settimeout(None)  # the caller has a limit of its own, and ends the connection
                    while os.read(wrapped.fileno(), 1000):
                        pass

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def attempt(port: int, caller: str) -> Attempt:
    return Attempt(address="127.0.0.1", port=port, sni="shop", alpn=("istio",), caller=caller)


@needs_openssl
def test_only_the_proper_caller_is_answered(tmp_path: Path) -> None:
    """This server knows nothing of trust domains, so the other domain is not refused by it."""
    with server(tmp_path) as port:
        wanted = (PROPER, WRONG_ROOT, EXPIRED, NOBODY, PROPER)
        replies = attempts_from_pod(
            LocalKube(), CLIENT, [attempt(port, who) for who in wanted], callers(CA, "cluster.local")
        )
    assert [reply.status for reply in replies] == [200, 0, 0, 0, 200]
    assert all(reply.tls.requests_client_certificate for reply in replies)
    assert "alert: unknown CA" in str(replies[1])
    assert "alert: certificate expired" in str(replies[2])
    assert "alert: " in str(replies[3])


@needs_openssl
def test_nothing_is_left_in_the_pod(tmp_path: Path) -> None:
    before = set(Path("/tmp").glob("meshproof-[0-9]*"))
    with server(tmp_path) as port:
        attempts_from_pod(LocalKube(), CLIENT, [attempt(port, PROPER)], callers(CA, "cluster.local"))
    assert set(Path("/tmp").glob("meshproof-[0-9]*")) <= before


@needs_openssl
def test_a_server_that_says_nothing_does_not_hold_us() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (reply,) = attempts_from_pod(LocalKube(), CLIENT, [attempt(silent.getsockname()[1], NOBODY)], timeout_s=0.5)
    assert str(reply) == "refused (did not finish within 0.5 s)"


def test_each_caller_is_wrong_in_one_thing() -> None:
    made = callers(CA, "cluster.local")
    leaves = {name: parse_chain(found.leaf)[0] for name, found in made.items() if found}
    ids = {name: spiffe_ids(leaf)[0].split("/")[2] for name, leaf in leaves.items()}
    assert ids == {
        PROPER: "cluster.local",
        WRONG_ROOT: "cluster.local",
        EXPIRED: "cluster.local",
        OTHER_DOMAIN: "meshproof.invalid",
    }
    for name in (PROPER, EXPIRED, OTHER_DOMAIN):
        leaves[name].verify_directly_issued_by(CA.issuer)
    assert leaves[EXPIRED].not_valid_after_utc < leaves[PROPER].not_valid_before_utc


def test_keys_are_in_no_text_and_in_no_argument() -> None:
    made = callers(CA, "cluster.local")
    assert "PRIVATE" not in repr(made) + repr(authority_of(CA))

    class Spy(LocalKube):
        def exec(self, namespace: str, pod: str, argv: object, **more: object) -> object:  # type: ignore[override]
            assert "PRIVATE" not in str(argv)
            assert "PRIVATE" in str(more["stdin"])
            raise Broken("exec", "seen enough")

    with pytest.raises(Broken, match="seen enough") as caught:
        attempts_from_pod(Spy(), CLIENT, [attempt(1, PROPER)], made)
    assert "PRIVATE" not in str(caught.value)


def test_a_ca_key_that_cannot_be_read_is_named_without_its_text() -> None:
    with pytest.raises(ClaimFailed, match="cannot be read") as caught:
        authority_of(CaFiles(files={**CA.files, CA_KEY: b"secret text"}))
    assert "secret text" not in str(caught.value)


def test_files_are_told_apart_on_standard_input() -> None:
    assert stdin_of({"a": "1\n", "b": "2"}) == "meshproof file a\n1\nmeshproof file b\n2\nmeshproof end\n"


def test_a_pod_without_openssl_is_our_failure() -> None:
    class Bare(LocalKube):
        def exec(self, *args: object, **more: object) -> object:  # type: ignore[override]
            from meshproof.clients.kubernetes.client import ExecResult

            return ExecResult(stdout="", stderr="mkdir: read-only file system", exit_code=97)

    with pytest.raises(Broken, match=r"0 of 1 commands reported \(exit code 97\): 'mkdir: read-only file system'"):
        attempts_from_pod(Bare(), CLIENT, [attempt(1, NOBODY)])


def test_a_closed_connection_is_no_answer() -> None:
    assert str(parse_reply("CONNECTED(00000003)\n")).startswith("refused (")
