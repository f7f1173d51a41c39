"""Kubernetes objects reduced to what claims need: parsed once, frozen, without secrets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.clients.kubernetes.rollout import is_ready
from meshproof.core import names
from meshproof.core.errors import Broken
from meshproof.core.model import GatewayRef
from meshproof.core.names import PROXY

DISCOVERY: Final = "discovery"
"""The container of istiod."""

SERVICE_OF_SLICE: Final = "kubernetes.io/service-name"

DISTRIBUTION: Final = "networking.istio.io/traffic-distribution"
"""Annotation of a Service, for Kubernetes versions without the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """A pod. `proxy_env` is the literal environment of its `istio-proxy` container; None if it has none. `istiod_env`
    is that of istiod's container, empty without one. `node` is the name of its node.

    `revision` is the control plane's: injected pods of Istio 1.31 carry it as an annotation, istiod as a label.
    """

    namespace: str
    name: str
    address: str
    account: str
    labels: Mapping[str, str]
    revision: str | None
    phase: str
    ready: bool
    leaving: bool
    proxy_env: Mapping[str, str] | None
    istiod_env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    node: str = ""

    @property
    def has_proxy(self) -> bool:
        return self.proxy_env is not None

    @property
    def live(self) -> bool:
        """Running and not terminating."""
        return self.phase == "Running" and not self.leaving

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortFacts:
    """One port of a Service; `name` may be empty. `target` is the port of its pods, 0 if that is a named port."""

    name: str
    number: int
    target: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFacts:
    """A Service. `addresses` are its external IP addresses or host names: of its load balancer,
    and `externalIPs`, as in istiod (kube/conversion.go). Pods with all labels of the `selector` are behind
    it; without one, none are. `distribution` is its traffic distribution (`PreferClose`), empty without one."""

    namespace: str
    name: str
    kind: str
    labels: Mapping[str, str]
    addresses: tuple[str, ...]
    ports: tuple[PortFacts, ...]
    selector: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    distribution: str = ""

    @property
    def port_numbers(self) -> frozenset[int]:
        return frozenset(port.number for port in self.ports)

    @property
    def ref(self) -> GatewayRef:
        """The topology's reference to the gateway behind it, if it is a gateway's."""
        return GatewayRef(self.namespace, self.name)

    @property
    def leads_in(self) -> bool:
        """Whether it is reachable from outside of its cluster."""
        return self.kind == "LoadBalancer" or bool(self.addresses)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class EndpointFacts:
    """One address of a Service's port, from its EndpointSlices."""

    address: str
    port: int
    ready: bool


def pod_facts(pod: Json) -> PodFacts:
    meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    containers: list[Json] = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    proxies = [container for container in containers if container["name"] == PROXY]
    istiods = [container for container in containers if container["name"] == DISCOVERY]
    return PodFacts(
        namespace=meta["namespace"],
        name=meta["name"],
        address=status.get("podIP") or "",
        account=spec.get("serviceAccountName") or "default",
        labels=MappingProxyType(dict(meta.get("labels") or {})),
        revision=(meta.get("annotations") or {}).get(names.REVISION_LABEL)
        or (meta.get("labels") or {}).get(names.REVISION_LABEL),
        phase=status.get("phase") or "",
        ready=is_ready(pod),
        leaving="deletionTimestamp" in meta,
        proxy_env=MappingProxyType(_literal_env(proxies[0])) if proxies else None,
        istiod_env=MappingProxyType(_literal_env(istiods[0]) if istiods else {}),
        node=spec.get("nodeName") or "",
    )


def _literal_env(container: Json) -> dict[str, str]:
    return {entry["name"]: str(entry["value"]) for entry in container.get("env") or [] if "value" in entry}


def service_facts(service: Json) -> ServiceFacts:
    meta, spec = service["metadata"], service.get("spec") or {}
    balancer = (service.get("status") or {}).get("loadBalancer") or {}
    balanced = (entry.get("ip") or entry.get("hostname") for entry in balancer.get("ingress") or [])
    return ServiceFacts(
        namespace=meta["namespace"],
        name=meta["name"],
        kind=spec.get("type") or "ClusterIP",
        labels=MappingProxyType(dict(meta.get("labels") or {})),
        addresses=tuple(dict.fromkeys(filter(None, (*balanced, *(spec.get("externalIPs") or []))))),
        ports=tuple(_port(port) for port in spec.get("ports") or []),
        selector=MappingProxyType(dict(spec.get("selector") or {})),
        distribution=spec.get("trafficDistribution") or (meta.get("annotations") or {}).get(DISTRIBUTION, ""),
    )


def _port(port: Json) -> PortFacts:
    number, target = int(port["port"]), port.get("targetPort")
    return PortFacts(
        name=port.get("name") or "",
        number=number,
        target=0 if isinstance(target, str) and not target.isdecimal() else int(target or number),
    )


def labels_of(thing: Json) -> dict[str, str]:
    return thing["metadata"].get("labels") or {}


def live_services(slices: Iterable[Json]) -> frozenset[str]:
    """`namespace/name` of the Services with a ready endpoint, as defined by `endpoint_facts`."""
    return frozenset(
        f"{part['metadata']['namespace']}/{labels_of(part).get(SERVICE_OF_SLICE)}"
        for part in slices
        if any((each.get("conditions") or {}).get("ready") is not False for each in part.get("endpoints") or [])
    )


def endpoint_facts(slices: list[Json], port_name: str) -> tuple[EndpointFacts, ...]:
    """The endpoints of the port of that name, sorted, without duplicates.

    An endpoint without conditions counts as ready (Kubernetes API reference: "a nil value … should be interpreted as
    ready").
    """
    found: set[EndpointFacts] = set()
    for part in slices:
        numbers = [p["port"] for p in part.get("ports") or [] if (p.get("name") or "") == port_name and p.get("port")]
        for endpoint in part.get("endpoints") or []:
            conditions: dict[str, Any] = endpoint.get("conditions") or {}
            ready = conditions.get("ready")
            found.update(
                EndpointFacts(address=address, port=number, ready=ready is not False)
                for address in endpoint.get("addresses") or []
                for number in numbers
            )
    return tuple(sorted(found))


def cluster_uid(kube: Kube) -> str:
    """A cluster's identity: the UID of kube-system (as OpenTelemetry's `k8s.cluster.uid`)."""
    namespace = kube.find("Namespace", "kube-system")
    if namespace is None:
        raise Broken(
            f"namespace kube-system on {kube.name}", "does not exist", "check that this is a Kubernetes cluster"
        )
    return str(namespace["metadata"]["uid"])
