"""Maps pods and addresses to workloads, so that a restarted pod counts as the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import PodFacts, pod_facts, service_facts

TEMPLATE_HASH: Final = "pod-template-hash"
"""The label whose value a ReplicaSet's name adds to that of its Deployment (Kubernetes, Deployments)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """Objects of one cluster as its API server returned them."""

    cluster: Cluster
    pods: tuple[Json, ...]
    services: tuple[Json, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPod:
    """The pod that represents a workload in a record."""

    cluster: Cluster
    workload: str
    pod: PodFacts


def workload_of(pod: Json) -> str:
    """`namespace/name` of the Deployment, of another owner with its kind, or of the pod itself."""
    meta = pod["metadata"]
    owner = next((o for o in meta.get("ownerReferences") or [] if o.get("controller")), None)
    if owner is None:
        return f"{meta['namespace']}/{meta['name']} (Pod)"
    if owner["kind"] == "ReplicaSet":
        suffix = f"-{(meta.get('labels') or {}).get(TEMPLATE_HASH, '')}"
        return f"{meta['namespace']}/{owner['name'].removesuffix(suffix)}"
    return f"{meta['namespace']}/{owner['name']} ({owner['kind']})"


def workload_pods(raw: Raw) -> list[WorkloadPod]:
    """The newest ready pod of every workload that has one, without our own probes."""
    found: dict[str, Json] = {}
    for pod in sorted(raw.pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", ""))):
        facts = pod_facts(pod)
        if facts.live and facts.ready and not names.is_probe_namespace(facts.namespace):
            found[workload_of(pod)] = pod
    return [WorkloadPod(cluster=raw.cluster, workload=each, pod=pod_facts(pod)) for each, pod in sorted(found.items())]


# -- addresses --------------------------------------------------------------------------------------------------------

_ADDRESS: Final = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}")


class Directory:
    """Addresses from the view of one cluster. Pod and Service addresses are replaced by their owners; gateway addresses
    are kept, with the owner added, since users and other clusters refer to them.
    """

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._addresses = addresses
        self._known: dict[str, str] = {}
        self._contents: dict[bytes, object] = {}

    def named(self, text: str) -> str:
        """The text with every known address replaced."""
        if text not in self._known:
            self._known[text] = _ADDRESS.sub(lambda found: self._addresses.get(found[0], found[0]), text)
        return self._known[text]

    def shared(self, content: object, text: str) -> object:
        """The content, or an earlier one with the same text, to save memory: workloads have much in common."""
        return self._contents.setdefault(hashlib.sha256(text.encode()).digest(), content)


def directory_of(viewer: Cluster, mesh: Mesh, raws: Iterable[Raw]) -> Directory:
    """Own cluster first, then own network, then the others, since clusters may use the same addresses."""

    def nearness(raw: Raw) -> tuple[bool, bool]:
        return raw.cluster is not viewer, mesh.crosses_network(viewer, raw.cluster)

    addresses: dict[str, str] = {}
    for raw in sorted(raws, key=nearness):
        for address, owner in (*_of_services(raw, viewer), *_of_pods(raw)):
            addresses.setdefault(address, owner)
    return Directory(addresses)


def _of_services(raw: Raw, viewer: Cluster) -> list[tuple[str, str]]:
    found = []
    for service in raw.services:
        facts = service_facts(service)
        owner = f"{facts}" if raw.cluster is viewer else f"{raw.cluster} {facts}"
        found += [(address, f"Service {owner}") for address in _cluster_addresses(service)]
        found += [(address, f"{address} ({raw.cluster} {facts})") for address in facts.addresses]
    return found


def _cluster_addresses(service: Json) -> list[str]:
    spec = service.get("spec") or {}
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return [str(address) for address in addresses if address and address != "None"]


def _of_pods(raw: Raw) -> list[tuple[str, str]]:
    """Addresses of pods, except those on the host network, which share their node's address."""
    return [
        (str(each["ip"]), f"{raw.cluster} {workload_of(pod)}")
        for pod in raw.pods
        if not (pod.get("spec") or {}).get("hostNetwork")
        for each in (pod.get("status") or {}).get("podIPs") or []
        if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
    ]
