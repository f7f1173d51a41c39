"""TLS clients with various certificates, and how servers respond to them.

Keys are sent to the pod by standard input only and stored in a folder that only its user can read, for as long as the
probe runs. They are never in arguments, texts or evidence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives import serialization

from meshproof.clients.kubernetes.client import Kube
from meshproof.core import names
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import ClaimFailed
from meshproof.mesh.ca_files import CaFiles
from meshproof.mesh.objects import PodFacts
from meshproof.pki.issue import Authority, SigningKey, make_root, make_workload
from meshproof.probes.pod_script import STDIN_FILES as STDIN_FILES
from meshproof.probes.pod_script import s_client
from meshproof.probes.pod_script import stdin_of as stdin_of
from meshproof.probes.tls import TlsAnswer, handshakes, parse_s_client

# -- clients --------------------------------------------------------------------------------------------------------

PROPER: Final = "a valid certificate"
"""The positive control: signed by the cluster's own CA, like a sidecar's."""
WRONG_ROOT: Final = "an unknown root"
EXPIRED: Final = "an expired certificate"
OTHER_DOMAIN: Final = "another trust domain"
NOBODY: Final = "no certificate"

LIFE: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Credentials:
    """A client certificate (leaf), the certificates above it, and its key, all PEM. `repr` omits them."""

    leaf: str
    above: str
    key: str

    def __repr__(self) -> str:
        return "Credentials(…)"


def authority_of(ca: CaFiles) -> Authority:
    """The CA for signing. Raises `ClaimFailed` if its key cannot be read, without quoting it."""
    what = f"{ca.names.key} of secret {ca.secret}"
    try:
        key = serialization.load_pem_private_key(ca.files.get(ca.names.key, b""), password=None)
    except (ValueError, TypeError):
        raise ClaimFailed(f"{what} cannot be read") from None
    if not isinstance(key, SigningKey):
        raise ClaimFailed(f"{what} is neither an RSA nor an EC key: proxies accept no certificate that it signs")
    above = dict.fromkeys(cert for cert in ca.chain if cert != ca.issuer)
    return Authority(cert=ca.issuer, key=key, above=tuple(above))


def callers(ca: CaFiles, trust_domain: str) -> Mapping[str, Credentials | None]:
    """The valid client and those that must be refused, each invalid in one way only; None has no certificate."""
    proper = authority_of(ca)
    who = f"spiffe://{trust_domain}/ns/{names.OUTSIDE_NAMESPACE}/sa/meshproof-probe"
    elsewhere = f"spiffe://meshproof.invalid/ns/{names.OUTSIDE_NAMESPACE}/sa/meshproof-probe"
    foreign_root = make_root(common_name="Another Root CA")
    key = foreign_root.key  # shared by all certificates, since generating keys takes time
    long_ago = datetime.now(UTC) - timedelta(days=2)
    return {
        PROPER: credentials_of(*make_workload(proper, who, life=LIFE, key=key)),
        WRONG_ROOT: credentials_of(*make_workload(foreign_root, who, life=LIFE, key=key)),
        EXPIRED: credentials_of(*make_workload(proper, who, life=LIFE, now=long_ago, key=key)),
        OTHER_DOMAIN: credentials_of(*make_workload(proper, elsewhere, life=LIFE, key=key)),
        NOBODY: None,
    }


def callers_without_key(proper: Credentials, spiffe_id: str) -> Mapping[str, Credentials | None]:
    """The same without the CA's key: `proper` was issued by the mesh, and what only its CA could sign is missing."""
    foreign_root = make_root(common_name="Another Root CA")
    return {
        PROPER: proper,
        WRONG_ROOT: credentials_of(*make_workload(foreign_root, spiffe_id, life=LIFE, key=foreign_root.key)),
        NOBODY: None,
    }


def credentials_of(chain: bytes, key: bytes) -> Credentials:
    """From PEM, the leaf first."""
    first, end, rest = chain.decode().partition("-----END CERTIFICATE-----\n")
    return Credentials(leaf=first + end, above=rest, key=key.decode())


# -- attempts -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One connection: TLS with this server name and these ALPN protocols, as this caller, then one HTTP request."""

    address: str
    port: int
    sni: str
    alpn: tuple[str, ...]
    caller: str = NOBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptReply:
    """The result of an attempt. `status` is that of the HTTP response, 0 if there was none; then `reason` is why."""

    tls: TlsAnswer
    status: int
    reason: str = ""

    @property
    def answered(self) -> bool:
        return self.status > 0

    def __str__(self) -> str:
        if self.answered:
            return f"answered HTTP {self.status}"
        if self.tls.completed:
            return f"{self.tls}, and did not respond ({self.reason})"
        return str(self.tls)


MOST_AT_ONCE: Final = 24
"""Attempts per `exec`: each is a process in the client pod."""


def attempts_from_pod(
    kube: Kube,
    pod: PodFacts,
    attempts: Sequence[Attempt],
    credentials: Mapping[str, Credentials | None] | None = None,
    *,
    timeout_s: float = DEADLINES.call_s,
) -> list[AttemptReply]:
    """Make all attempts from a client pod, some at a time, and return their results in order."""
    known = credentials or {}
    numbers = {name: str(number) for number, name in enumerate(known)}
    replies: list[AttemptReply] = []
    for start in range(0, len(attempts), MOST_AT_ONCE):
        batch = attempts[start : start + MOST_AT_ONCE]
        files = {"request": "GET / HTTP/1.1\r\nHost: meshproof\r\nConnection: close\r\n\r\n"}
        commands = []
        for attempt in batch:
            # In TLS 1.3 the client finishes before the server has seen its certificate: only a response shows
            # acceptance.
            options = ["-servername", attempt.sni, "-alpn", ",".join(attempt.alpn), "-ign_eof"]
            found = known.get(attempt.caller)
            if found is not None:
                of = numbers[attempt.caller]
                files |= {f"{of}.{part}": getattr(found, part) for part in ("leaf", "above", "key")}
                options += ["-cert", f"{of}.leaf", "-cert_chain", f"{of}.above", "-key", f"{of}.key"]
            commands.append(s_client(attempt.address, attempt.port, *options, limit_s=timeout_s, request="request"))
        outputs = handshakes(kube, pod, commands, timeout_s=timeout_s + 30, files=files)
        replies += [parse_reply(output) for output in outputs]
    return replies


_STATUS: Final = re.compile(r"^HTTP/1\.[01] (\d{3})", re.MULTILINE)
_LIMIT: Final = re.compile(r"^meshproof: (.+)$", re.MULTILINE)
_ALERT: Final = re.compile(r"^SSL3 alert read:fatal:(.+)$", re.MULTILINE)
_ERROR: Final = re.compile(r"SSL routines:[^:]*:([^:\n]+)")


def parse_reply(text: str) -> AttemptReply:
    """From the output of `openssl s_client -showcerts -state` into which a request was piped."""
    tls = parse_s_client(text)
    status = _STATUS.search(text)
    if status:
        return AttemptReply(tls=tls, status=int(status[1]))
    limit, alert, error = (pattern.search(text) for pattern in (_LIMIT, _ALERT, _ERROR))
    words = limit[1] if limit else f"alert: {alert[1]}" if alert else error[1] if error else "the connection was closed"
    return AttemptReply(tls=tls, status=0, reason=words.strip())
