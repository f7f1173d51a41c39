"""Certificates that workloads have, and present to clients in other clusters."""

from __future__ import annotations

from collections.abc import Sequence, Set
from datetime import datetime

from cryptography import x509

from meshproof.core.deadlines import HORIZONS
from meshproof.pki.verify import (
    fingerprint,
    key_usage_problems,
    lifetime_problems,
    san_problems,
    spiffe_ids,
    subject,
    verify_chain,
)
from meshproof.probes.tls import TlsAnswer


def svid_problems(leaf: x509.Certificate, spiffe_id: str, issuers: Sequence[x509.Certificate]) -> list[str]:
    """What is wrong with the name, the key usage and the lifetime of a workload's certificate. Of several `issuers` the
    one that signed it counts, which is known by its name."""
    issuer = next((each for each in issuers if each.subject == leaf.issuer), issuers[0])
    return [
        *san_problems(leaf, spiffe_id),
        *key_usage_problems(leaf),
        *lifetime_problems(leaf, issuer, longest=HORIZONS.workload_longest),
    ]


def presented_problems(
    answer: TlsAnswer,
    accounts: Set[str],
    issuers: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    now: datetime,
) -> list[str]:
    """What is wrong with the certificate that a client received: it must name one of `accounts` (SPIFFE IDs), be signed
    by one of `issuers`, and verify against the client's own `roots`."""
    problems = [] if answer.completed else [str(answer)]
    for leaf in answer.chain[:1]:
        expected = " or ".join(sorted(accounts)) or "a ready pod"
        problems += [] if accounts & set(spiffe_ids(leaf)) else [f"presented {subject(leaf)}, not {expected}"]
        problems += verify_chain(leaf, (), issuers, now) + verify_chain(leaf, answer.chain[1:], roots, now)
    return problems


def certificate_summary(cert: x509.Certificate) -> dict[str, str]:
    """A certificate for the evidence."""
    return {"subject": subject(cert), "issuer": cert.issuer.rfc4514_string(), "sha256": fingerprint(cert)}
