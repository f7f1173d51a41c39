"""Certificates that workloads have, and present to clients in other clusters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from datetime import datetime, timedelta
from typing import Final

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

LONGEST: Final = timedelta(days=90)
"""istiod's own upper bound (`MAX_WORKLOAD_CERT_TTL`)."""
_TTL: Final = "DEFAULT_WORKLOAD_CERT_TTL"
_REQUESTED: Final = "SECRET_TTL"
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(h|m|s)")


def longest_life(istiod_env: Mapping[str, str], proxy_env: Mapping[str, str], *, external: bool) -> timedelta:
    """How long a workload's certificate may live: a day, or longer if istiod or the proxy is configured so, or if the
    lifetime is an external CA's affair."""
    if external:
        return LONGEST
    asked = (duration(istiod_env.get(_TTL, "")), duration(proxy_env.get(_REQUESTED, "")))
    return min(LONGEST, max(HORIZONS.workload_longest, *(life + timedelta(hours=1) for life in asked)))


def duration(text: str) -> timedelta:
    """A duration as Go writes it (`24h0m0s`); none for anything else."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return timedelta(0)
    seconds = {"h": 3600.0, "m": 60.0, "s": 1.0}
    return timedelta(seconds=sum(float(number) * seconds[unit] for number, unit in parts))


def svid_problems(
    leaf: x509.Certificate,
    spiffe_id: str,
    issuers: Sequence[x509.Certificate],
    longest: timedelta = HORIZONS.workload_longest,
) -> list[str]:
    """What is wrong with the name, the key usage and the lifetime of a workload's certificate. Of several `issuers` the
    one that signed it counts, which is known by its name."""
    issuer = next((each for each in issuers if each.subject == leaf.issuer), issuers[0])
    return [
        *san_problems(leaf, spiffe_id),
        *key_usage_problems(leaf),
        *lifetime_problems(leaf, issuer, longest=longest),
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
