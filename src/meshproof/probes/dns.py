"""DNS lookups from client pods."""

from __future__ import annotations

from meshproof.clients.kubernetes.client import Kube
from meshproof.clients.nslookup import nslookup
from meshproof.core import names
from meshproof.mesh.objects import PodFacts


def resolve_from_pod(kube: Kube, pod: PodFacts, name: str) -> tuple[str, ...]:
    """The addresses that a client pod resolves a fully qualified name to; empty if there are none."""
    return nslookup(kube, pod.namespace, pod.name, names.CLIENT_POD, name)
