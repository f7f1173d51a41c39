"""What a server presents in a TLS handshake, and whether it requests a client certificate."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from meshproof.clients.kubernetes.client import Kube
from meshproof.core import names
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import Broken
from meshproof.mesh.objects import PodFacts
from meshproof.pki.verify import parse_chain, subject
from meshproof.probes.answers import words
from meshproof.probes.pod_script import LIMITED, run, s_client

ISTIO_ALPN: Final = "istio"
"""ALPN protocol that sidecars offer to port 15443, whose filter chains match nothing else
(pilot/pkg/networking/util)."""


def sni_of(service: str, namespace: str, port: int) -> str:
    """The server name by which an AUTO_PASSTHROUGH gateway finds a service's port."""
    return f"outbound_.{port}_._.{names.fqdn(service, namespace)}"


APP_SNI: Final = sni_of(names.APP_SERVICE, names.APP_NAMESPACE, names.APP_PORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsAnswer:
    """The result of a TLS handshake.

    `chain` is what the server presented (leaf first), empty if it refused; `reason` is why there is no certificate.
    """

    chain: tuple[x509.Certificate, ...]
    requests_client_certificate: bool
    reason: str = ""

    @property
    def completed(self) -> bool:
        return bool(self.chain)

    def __str__(self) -> str:
        if not self.chain:
            return f"refused ({self.reason})"
        verb = "requests" if self.requests_client_certificate else "does not request"
        return f"presented {subject(self.chain[0])}, {verb} a client certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a client sends when it connects to `address:port`; None omits it."""

    address: str
    port: int
    sni: str | None
    alpn: str | None


def tls_from_runner(
    address: str, port: int, *, sni: str | None, alpn: Sequence[str], timeout_s: float = DEADLINES.connect_s
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
            # In TLS 1.3 the client finishes first; the server's demand for a certificate arrives as an alert.
            wrapped.settimeout(1.0)
            wrapped.recv(1)
            return TlsAnswer(
                chain=(leaf,) if leaf else (), requests_client_certificate=False, reason="no certificate was presented"
            )
    except ssl.SSLError as problem:
        requested = "CERTIFICATE_REQUIRED" in (problem.reason or "").upper().replace(" ", "_")
        return TlsAnswer(chain=(leaf,) if leaf else (), requests_client_certificate=requested, reason=words(problem))
    except OSError as problem:
        return TlsAnswer(chain=(leaf,) if leaf else (), requests_client_certificate=False, reason=words(problem))


def tls_from_pod(
    kube: Kube, pod: PodFacts, hellos: Sequence[Hello], *, timeout_s: float = DEADLINES.call_s
) -> list[TlsAnswer]:
    """Handshakes from a client pod, without a client certificate, with the complete presented chains.

    One `exec`, all at once.
    """
    if not hellos:
        return []
    commands = []
    for hello in hellos:
        options = ["-noservername"] if hello.sni is None else ["-servername", hello.sni]
        options += [] if hello.alpn is None else ["-alpn", hello.alpn]
        commands.append(s_client(hello.address, hello.port, *options, limit_s=timeout_s))
    return [parse_s_client(text) for text in handshakes(kube, pod, commands, timeout_s=timeout_s + 20)]


def handshakes(
    kube: Kube, pod: PodFacts, commands: Sequence[str], *, timeout_s: float, files: Mapping[str, str] | None = None
) -> list[str]:
    """The output of each of these openssl commands in a client pod. Raises `Broken` if there is no openssl."""
    what, needs = f"{len(commands)} TLS handshakes", "the client image needs sh and openssl 1.1.1 or newer"
    outputs = run(kube, pod, commands, what=what, timeout_s=timeout_s, functions=LIMITED, files=files, needs=needs)
    if any("openssl: not found" in output.text for output in outputs):
        raise Broken(f"{what} from {pod} on {kube.name}", "the client image has no openssl", "use an image with it")
    return [output.text for output in outputs]


_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def parse_s_client(text: str) -> TlsAnswer:
    """From the output of `openssl s_client -showcerts -state`.

    `-state` reports a certificate request when it is read; the list of signature algorithms is printed only if there
    was one (OpenSSL, apps/lib/s_cb.c, `ssl_print_sigalgs`).
    """
    # -showcerts prints every certificate once; the "Server certificate" section repeats the leaf in older versions.
    blocks = list(dict.fromkeys(_PEM.findall(text)))
    chain = parse_chain("\n".join(blocks)) if blocks else ()
    requested = "read server certificate request" in text or "Requested Signature Algorithms" in text
    return TlsAnswer(chain=chain, requests_client_certificate=requested, reason="" if chain else _s_client_reason(text))


def _s_client_reason(text: str) -> str:
    for line in text.splitlines():
        if line.startswith("meshproof: "):
            return line.removeprefix("meshproof: ")
        if "error:" in line:
            return line.rpartition("error:")[2].strip()
        if "errno=" in line or "refused" in line:
            return line.strip()
    return text.strip().splitlines()[-1] if text.strip() else "no output from openssl"
