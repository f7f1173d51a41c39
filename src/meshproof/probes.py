"""Probes of the wire: each returns what it observed, or raises why it could not look. A refusal is an observation.

Scripts that run in client pods need `sh`, `curl` (7.84 or newer, for `%header{}`), `openssl` and `sleep`.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from meshproof import names
from meshproof.certificates import parse_chain, subject
from meshproof.clients.kube import Kube
from meshproof.deadlines import DEADLINES
from meshproof.errors import Broken, NotReady
from meshproof.facts import PodFacts
from meshproof.parallel import together

ISTIO_ALPN: Final = "istio"
"""What sidecars offer towards 15443, whose filter chains match nothing else (pilot/pkg/networking/util)."""


def sni_of(service: str, namespace: str, port: int) -> str:
    """The server name by which an AUTO_PASSTHROUGH gateway finds a service's port."""
    return f"outbound_.{port}_._.{service}.{namespace}.svc.cluster.local"


APP_SNI: Final = sni_of(names.APP_SERVICE, names.APP_NAMESPACE, names.APP_PORT)


# -- TCP --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpAnswer:
    """Whether `address:port` accepted a connection; if not, `reason` says why."""

    address: str
    port: int
    accepted: bool
    reason: str = ""

    def __str__(self) -> str:
        return (
            f"{self.address}:{self.port} {'accepts TCP' if self.accepted else f'does not accept TCP ({self.reason})'}"
        )


def tcp_from_runner(targets: Iterable[tuple[str, int]], *, timeout_s: float = DEADLINES.connect) -> list[TcpAnswer]:
    """Connect to each `(address, port)` from this machine, all at once."""

    def connect(target: tuple[str, int]) -> TcpAnswer:
        address, port = target
        try:
            socket.create_connection(target, timeout=timeout_s).close()
        except OSError as problem:
            return TcpAnswer(address=address, port=port, accepted=False, reason=_words(problem))
        return TcpAnswer(address=address, port=port, accepted=True)

    return together(connect, targets, width=32)


# `time_connect` stays 0 until the TCP handshake is done, whatever is said (or not said) after it. Not with https: there
# curl 7.88 leaves it at 0 when TLS fails.
_TCP_SCRIPT: Final = """
limit=$1; shift
for target in "$@"; do
  curl -s -o /dev/null --connect-timeout "$limit" --max-time "$limit" \\
    -w "$target %{time_connect} %{exitcode} %{errormsg}\\n" "http://$target/" </dev/null &
done
wait
"""


def tcp_from_pod(
    kube: Kube, pod: PodFacts, targets: Iterable[tuple[str, int]], *, timeout_s: float = DEADLINES.connect
) -> list[TcpAnswer]:
    """Connect to each `(address, port)` from a client pod: one `exec`, all at once."""
    wanted = list(dict.fromkeys(targets))
    arguments = [f"{bracketed(address)}:{port}" for address, port in wanted]
    argv = ["sh", "-c", _TCP_SCRIPT, "sh", f"{timeout_s:g}", *arguments]
    answer = kube.exec(pod.namespace, pod.name, argv, container=names.CLIENT_POD, timeout_s=timeout_s + 20)
    rows = {row.split(" ", 1)[0]: row for row in answer.stdout.splitlines() if row.strip()}
    return [
        parse_tcp_row(rows.get(argument, ""), address, port, answer.stderr)
        for argument, (address, port) in zip(arguments, wanted, strict=True)
    ]


def parse_tcp_row(row: str, address: str, port: int, stderr: str = "") -> TcpAnswer:
    """One line `target time_connect exitcode message` of the script above."""
    parts = row.split(" ", 3)
    if len(parts) < 3:
        raise Broken(f"probing {address}:{port} from a pod", f"no answer from its curl: {stderr.strip()[-300:]!r}")
    accepted = float(parts[1]) > 0
    reason = "" if accepted else (parts[3].strip() if len(parts) > 3 else "") or f"curl exit code {parts[2]}"
    return TcpAnswer(address=address, port=port, accepted=accepted, reason=reason)


# -- TLS --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsAnswer:
    """What a TLS handshake came to.

    `chain` is what the server presented (leaf first), empty if it refused; `asks_client` whether it asked for a client
    certificate; `reason` is why there is no certificate.
    """

    chain: tuple[x509.Certificate, ...]
    asks_client: bool
    reason: str = ""

    @property
    def completed(self) -> bool:
        return bool(self.chain)

    def __str__(self) -> str:
        if not self.chain:
            return f"refused ({self.reason})"
        return (
            f"presented {subject(self.chain[0])}, {'asks' if self.asks_client else 'asks not'} for a client certificate"
        )


def tls_from_runner(
    address: str, port: int, *, sni: str | None, alpn: Sequence[str], timeout_s: float = DEADLINES.connect
) -> TlsAnswer:
    """A handshake from this machine, without a client certificate; the chain holds the leaf only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    leaf: x509.Certificate | None = None
    try:
        with (
            socket.create_connection((address, port), timeout=timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=sni) as wrapped,
        ):
            presented = wrapped.getpeercert(binary_form=True)
            leaf = x509.load_der_x509_certificate(presented) if presented else None
            # In TLS 1.3 the client is done first; the server's demand for a certificate arrives as an alert.
            wrapped.settimeout(1.0)
            wrapped.recv(1)
            return TlsAnswer(chain=(leaf,) if leaf else (), asks_client=False, reason="no certificate was presented")
    except ssl.SSLError as problem:
        asks = "CERTIFICATE_REQUIRED" in (problem.reason or "").upper().replace(" ", "_")
        return TlsAnswer(chain=(leaf,) if leaf else (), asks_client=asks, reason=_words(problem))
    except OSError as problem:
        return TlsAnswer(chain=(leaf,) if leaf else (), asks_client=False, reason=_words(problem))


# A connection that is dropped on the way would hang in openssl for minutes, and not every image has `timeout`.
_TLS_SCRIPT: Final = """
limit=$1; shift
openssl s_client "$@" </dev/null 2>&1 & probe=$!
(sleep "$limit"; kill "$probe") >/dev/null 2>&1 & watch=$!
wait "$probe"; code=$?
kill "$watch" 2>/dev/null
[ "$code" -le 128 ] || echo "meshproof: no end within $limit s"
"""


def tls_from_pod(
    kube: Kube,
    pod: PodFacts,
    address: str,
    port: int,
    *,
    sni: str | None,
    alpn: str | None,
    timeout_s: float = DEADLINES.connect,
) -> TlsAnswer:
    """A handshake from a client pod, without a client certificate, with the whole chain that was presented."""
    arguments = ["-connect", f"{bracketed(address)}:{port}", "-showcerts", "-state"]
    arguments += ["-servername", sni] if sni else ["-noservername"]
    arguments += ["-alpn", alpn] if alpn else []
    argv = ["sh", "-c", _TLS_SCRIPT, "sh", f"{timeout_s:g}", *arguments]
    answer = kube.exec(pod.namespace, pod.name, argv, container=names.CLIENT_POD, timeout_s=timeout_s + 20)
    if "openssl: not found" in answer.stdout + answer.stderr:
        raise Broken(
            f"probing TLS from {pod} on {kube.name}", "the client image has no openssl", "use an image with it"
        )
    return parse_s_client(answer.stdout)


_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def parse_s_client(text: str) -> TlsAnswer:
    """From the output of `openssl s_client -showcerts -state`.

    `-state` tells of a certificate request as it is read; the list of signature algorithms is printed only if there
    was one (OpenSSL, apps/lib/s_cb.c, `ssl_print_sigalgs`).
    """
    # -showcerts prints every certificate once; the "Server certificate" section repeats the leaf in older versions.
    blocks = list(dict.fromkeys(_PEM.findall(text)))
    chain = parse_chain("\n".join(blocks)) if blocks else ()
    asks = "read server certificate request" in text or "Requested Signature Algorithms" in text
    return TlsAnswer(chain=chain, asks_client=asks, reason="" if chain else _s_client_reason(text))


def _s_client_reason(text: str) -> str:
    for line in text.splitlines():
        if line.startswith("meshproof: "):
            return line.removeprefix("meshproof: ")
        if "error:" in line:
            return line.rpartition("error:")[2].strip()
        if "errno=" in line or "refused" in line:
            return line.strip()
    return text.strip().splitlines()[-1] if text.strip() else "no output from openssl"


# -- DNS --------------------------------------------------------------------------------------------------------------


def resolve_from_pod(kube: Kube, pod: PodFacts, name: str) -> tuple[str, ...]:
    """The addresses that a client pod gets for a name; empty if it gets none. The name is taken as complete."""
    answer = kube.exec(pod.namespace, pod.name, ["nslookup", f"{name}."], container=names.CLIENT_POD)
    if "not found" in answer.stderr:
        raise Broken(f"nslookup in {pod} on {kube.name}", answer.stderr.strip()[-200:], "use an image with nslookup")
    return parse_nslookup(answer.stdout)


def parse_nslookup(text: str) -> tuple[str, ...]:
    """The addresses behind the first `Name:`; what is above it is the server's (BusyBox, ISC)."""
    _, _, answers = text.partition("\nName:")
    found = re.findall(r"^Address(?: \d+)?:\s*(\S+)", answers, re.MULTILINE)
    return tuple(sorted(set(found)))


# -- HTTP -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """One request. `status` 0 means that there was no answer, and `error` says why; `version` is the app's header."""

    status: int
    version: str
    seconds: float
    error: str = ""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300 and not self.error

    @property
    def outcome(self) -> str:
        """In a word, for tables: the version that answered, or what went wrong."""
        if self.ok:
            return self.version or "an answer without a version"
        return f"HTTP {self.status}" if self.status else self.error or "no answer"


VERSION_HEADER: Final = "x-app-version"

_HTTP_FORMAT: Final = f"%{{http_code}} %{{time_total}} %{{exitcode}} %header{{{VERSION_HEADER}}}|%{{errormsg}}\\n"


def http_from_pod(
    kube: Kube, pod: PodFacts, url: str, count: int, *, timeout_s: float = DEADLINES.answer
) -> list[HttpAnswer]:
    """Send `count` GET requests from a client pod: one `exec`, one curl, one request at a time.

    curl keeps its connection to the sidecar, which balances request by request. One at a time, since with several in
    flight its least-request balancing prefers the endpoint that answers sooner. The sample ends with the first request
    that gets no answer at all: it is red already, and a dropped path would cost a deadline for each of the others.
    """
    argv = ["curl", "-s", "-o", "/dev/null", "--max-time", f"{timeout_s:g}", "--fail-early", "-w", _HTTP_FORMAT]
    argv += [f"{url}?n=[1-{count}]"]
    answer = kube.exec(pod.namespace, pod.name, argv, container=names.CLIENT_POD, timeout_s=DEADLINES.batch)
    answers = [parse_http_row(row) for row in answer.stdout.splitlines() if row]
    if len(answers) != count and not (answers and answers[-1].error):
        raise NotReady(
            f"{count} requests from {pod} on {kube.name}",
            f"curl told of {len(answers)} (exit code {answer.exit_code}): {(answer.stderr or answer.stdout)[-300:]!r}",
        )
    return answers


def parse_http_row(row: str) -> HttpAnswer:
    """One line of curl's `-w` output as asked for above."""
    figures, _, message = row.partition("|")
    parts = figures.split(" ", 3)
    if len(parts) < 3:
        raise Broken("curl's output", f"unexpected line {row!r}", "the client image needs curl 7.84 or newer")
    code = int(parts[2])
    return HttpAnswer(
        status=int(parts[0]),
        version=parts[3].strip() if len(parts) > 3 else "",
        seconds=float(parts[1]),
        error=(message.strip() or f"curl exit code {code}") if code else "",
    )


def app_url() -> str:
    """The application as mesh clients call it."""
    return f"http://{names.APP_SERVICE}.{names.APP_NAMESPACE}.svc.cluster.local:{names.APP_PORT}/"


def plain_http_from_pod(kube: Kube, pod: PodFacts, address: str, port: int) -> HttpAnswer:
    """One plain HTTP request to `address:port` from a client pod."""
    url = f"http://{bracketed(address)}:{port}/"
    argv = ["curl", "-s", "-o", "/dev/null", "--max-time", f"{DEADLINES.connect:g}", "-w", _HTTP_FORMAT, url]
    answer = kube.exec(pod.namespace, pod.name, argv, container=names.CLIENT_POD)
    return parse_http_row(answer.stdout.strip("\n"))


def http_from_runner(
    address: str,
    count: int,
    *,
    host: str = names.APP_HOST,
    path: str = "/",
    timeout_s: float = DEADLINES.answer,
) -> list[HttpAnswer]:
    """Send `count` GET requests to an ingress gateway, one at a time, in turn over a few kept-alive connections.

    The gateway balances request by request. One at a time, since with several in flight its least-request balancing
    prefers the endpoint that answers sooner, so that shares would depend on the distance. The sample ends with the
    first request that gets no answer at all, as in `http_from_pod`.
    """
    connections = [http.client.HTTPConnection(address, timeout=timeout_s) for _ in range(_CONNECTIONS)]
    answers: list[HttpAnswer] = []
    try:
        for number in range(count):
            answers.append(_ask(connections[number % _CONNECTIONS], host, path))
            if answers[-1].error:
                break
        return answers
    finally:
        for connection in connections:
            connection.close()


_CONNECTIONS: Final = 4


def _ask(connection: http.client.HTTPConnection, host: str, path: str) -> HttpAnswer:
    start = time.monotonic()
    try:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        answer.read()
    except (http.client.HTTPException, OSError) as problem:
        connection.close()  # the next request opens it again
        return HttpAnswer(status=0, version="", seconds=time.monotonic() - start, error=_words(problem))
    version = answer.getheader(VERSION_HEADER, "")
    return HttpAnswer(status=answer.status, version=version, seconds=time.monotonic() - start)


def ask_ingress(address: str, *, timeout_s: float, port: int = 80) -> HttpAnswer:
    """One request with `Host: mockshop.com` over a new connection."""
    import requests

    start = time.monotonic()
    headers = {"Host": names.APP_HOST, "Connection": "close"}
    try:
        with requests.Session() as session:
            session.trust_env = False  # a proxy of the runner's has no business between it and the gateway
            answer = session.get(f"http://{bracketed(address)}:{port}/", headers=headers, timeout=timeout_s)
    except requests.RequestException as problem:
        return HttpAnswer(status=0, version="", seconds=time.monotonic() - start, error=_words(problem))
    return HttpAnswer(
        status=answer.status_code,
        version=answer.headers.get(VERSION_HEADER, ""),
        seconds=time.monotonic() - start,
    )


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


_ADDRESS_IN_MEMORY: Final = re.compile(r"<[^<>]* at 0x[0-9a-f]+>:? ?")


def _words(problem: BaseException) -> str:
    """An exception in words that are the same each time, so that equal failures can be counted together."""
    text = _ADDRESS_IN_MEMORY.sub("", str(problem)) or type(problem).__name__
    if isinstance(problem, TimeoutError) or "timed out" in text:
        return "timed out"
    if "Connection refused" in text:
        return "connection refused"
    if "reset by peer" in text or isinstance(problem, ConnectionResetError):
        return "connection reset"
    if "EOF occurred" in text or "Remote end closed" in text:
        return "connection closed"
    return " ".join(text.split())[:200]
