"""Root certificates in every place that has them."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509

from meshproof.core.names import ROOT_MAP
from meshproof.mesh.snapshot import Snapshot
from meshproof.pki.verify import fingerprint, parse_chain


def roots_by_place(snapshot: Snapshot) -> dict[str, frozenset[str]]:
    """SHA-256 fingerprints of the roots in every CA, in every namespace with proxies, and in every live proxy."""
    found: dict[str, frozenset[str]] = {}
    for primary in snapshot.mesh.primaries:
        ca = snapshot.issuer_of(primary)
        found[f"{primary} {ca.form}"] = _prints(ca.roots)
    for remote, unused in snapshot.unused_ca.items():
        found[f"{remote} {unused.form}"] = _prints(unused.roots)
    for facts in snapshot.facts:
        for namespace in sorted({pod.namespace for pod in facts.proxies}):
            text = facts.root_maps.get(namespace, "")
            found[f"{facts.cluster} {namespace}/{ROOT_MAP}"] = _prints(parse_chain(text)) if text else frozenset()
    for cluster, pod, identity in snapshot.identities():
        found[f"{cluster} {pod}"] = _prints(identity.roots)
    return found


def _prints(roots: Iterable[x509.Certificate]) -> frozenset[str]:
    return frozenset(fingerprint(root) for root in roots)
