"""A snapshot of all clusters, shared by the claims that check the same moment."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from cryptography import x509

from meshproof.clients.envoy_admin import Identity, identity_of
from meshproof.clients.kubernetes.client import FORBIDDEN, ApiError, Json, Kube, label_selector, path_of
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import Broken, ClaimFailed, NotReady, Unavailable
from meshproof.core.model import GatewayRef
from meshproof.core.names import ROOT_MAP
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.ingress_obstacles import authorization_policies, obstacle
from meshproof.mesh.objects import (
    SERVICE_OF_SLICE,
    EndpointFacts,
    PodFacts,
    ServiceFacts,
    endpoint_facts,
    pod_facts,
    service_facts,
)
from meshproof.pki.verify import CA_CERT, CERT_CHAIN, ROOT_CERT, parse_chain

ROOT_KEY: Final = "root-cert.pem"
"""The ConfigMap, and its key, from which the proxies of a namespace get their trusted root."""


NAME_AN_INGRESS: Final = "name an ingress gateway that accepts them in the topology file (docs/attach.md)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CaFiles:
    """The decoded files of a secret `cacerts`. `repr` omits them, since one is a private key."""

    files: Mapping[str, bytes]

    def __repr__(self) -> str:
        return f"CaFiles({', '.join(sorted(self.files))})"

    @property
    def issuer(self) -> x509.Certificate:
        return self._certificates(CA_CERT)[0]

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return self._certificates(CERT_CHAIN)

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        return self._certificates(ROOT_CERT)

    def _certificates(self, name: str) -> tuple[x509.Certificate, ...]:
        try:
            return parse_chain(self.files.get(name, b""))
        except ValueError:
            raise ClaimFailed(f"{name} of secret {names.CACERTS} contains no certificate") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """The state of one cluster. `root_maps` is the text of `istio-ca-root-cert` per namespace.

    `ca_withheld` is the API server's message if the user may not read the plug-in CA. `ingress_shut` is why the
    ingress gateway ignores our configuration, if it does.
    """

    cluster: Cluster
    pods: tuple[PodFacts, ...]
    services: tuple[ServiceFacts, ...]
    app_endpoints: tuple[EndpointFacts, ...]
    ca: CaFiles | None
    root_maps: Mapping[str, str]
    ca_withheld: str = ""
    ingress_shut: str = ""

    def pods_of(self, namespace: str, /, **labels: str) -> tuple[PodFacts, ...]:
        """The live pods of a namespace with all these labels."""
        return tuple(
            pod
            for pod in self.pods
            if pod.live and pod.namespace == namespace and labels.items() <= dict(pod.labels).items()
        )

    def one_pod(self, namespace: str, **labels: str) -> PodFacts:
        """A ready pod with these labels. Raises `Broken` if there is none: a probe needs it."""
        for pod in self.pods_of(namespace, **labels):
            if pod.ready:
                return pod
        raise Broken(
            f"pod {label_selector(labels)} in {namespace} on {self.cluster}",
            "none is ready",
            "check it with kubectl describe, or install the mesh again",
        )

    @property
    def client(self) -> PodFacts:
        """The in-mesh client."""
        return self.one_pod(names.CLIENT_NAMESPACE, app=names.CLIENT_POD)

    @property
    def outside(self) -> PodFacts:
        """The client without a sidecar."""
        return self.one_pod(names.OUTSIDE_NAMESPACE, app=names.CLIENT_POD)

    @property
    def ingress_pods(self) -> tuple[PodFacts, ...]:
        return self._behind(self.ingress)

    @property
    def ingress_unusable(self) -> str:
        """Why our requests cannot pass an ingress gateway here; empty if they can."""
        if self.cluster.spec.ingress is None:
            return f"{self.cluster} has no ingress gateway"
        return self.ingress_shut

    @property
    def callers(self) -> tuple[PodFacts, ...]:
        """One pod of each kind that calls the application: client, and ingress gateway where there is one.

        Raises `Broken` if one of them is not ready.
        """
        return (self.client, *((self.ingress_pod,) if self.cluster.spec.ingress else ()))

    @property
    def ingress_pod(self) -> PodFacts:
        """A ready pod of the ingress gateway. Raises `Broken` if there is none: a probe needs it."""
        for pod in self.ingress_pods:
            if pod.ready:
                return pod
        what = f"pod of {self.cluster.spec.ingress} on {self.cluster}"
        raise Broken(what, "none is ready", "check it with kubectl describe, or install the mesh again")

    @property
    def ingress_route(self) -> str:
        """Envoy's name of the ingress gateway's route configuration for port 80: by the port of its pods, which differs
        with a target port (8080 with istioctl's own gateways). Raises `Unavailable` if our routes cannot be there."""
        self._must_take_routes()
        ports = self.ingress.ports if self.ingress else ()
        target = next((port.target for port in ports if port.number == names.PORT_INGRESS), 0)
        return f"http.{target or names.PORT_INGRESS}"

    @property
    def east_west_pods(self) -> tuple[PodFacts, ...]:
        return self._behind(self.east_west)

    def _behind(self, service: ServiceFacts | None) -> tuple[PodFacts, ...]:
        """The live pods that a Service selects."""
        return self.pods_of(service.namespace, **service.selector) if service and service.selector else ()

    @property
    def istiods(self) -> tuple[PodFacts, ...]:
        """Every replica of every revision."""
        return self.pods_of(names.SYSTEM_NAMESPACE, app="istiod")

    @property
    def proxies(self) -> tuple[PodFacts, ...]:
        """Every live pod with a proxy: sidecars and gateways, without our temporary probes."""
        return tuple(p for p in self.pods if p.live and p.has_proxy and not names.is_probe_namespace(p.namespace))

    @property
    def ready_endpoints(self) -> tuple[EndpointFacts, ...]:
        """The application's ready endpoints here."""
        return tuple(endpoint for endpoint in self.app_endpoints if endpoint.ready)

    def service(self, namespace: str, name: str) -> ServiceFacts | None:
        return next((s for s in self.services if (s.namespace, s.name) == (namespace, name)), None)

    @property
    def ingress(self) -> ServiceFacts | None:
        return self._front_of(self.cluster.spec.ingress) if self.cluster.spec.ingress else None

    @property
    def east_west(self) -> ServiceFacts | None:
        return self._front_of(self.cluster.spec.east_west)

    def _front_of(self, gateway: GatewayRef) -> ServiceFacts | None:
        return self.service(gateway.namespace, gateway.name)

    def is_gateway(self, service: ServiceFacts) -> bool:
        """Whether a Service exposes gateways: one of the topology's, or any other except istiod."""
        named = service in (self.ingress, self.east_west)
        return service.leads_in and (named or service.namespace == names.SYSTEM_NAMESPACE)

    @property
    def ingress_address(self) -> str:
        """The first external address of the ingress gateway. Raises `Broken` if it has none, and `Unavailable` if
        our requests would have no route there."""
        self._must_take_routes()
        service = self.ingress
        if service is None or not service.addresses:
            raise Broken(
                f"Service {self.cluster.spec.ingress} on {self.cluster}",
                "it has no external address" if service else "it does not exist",
                "check the cluster's load balancer implementation, or set externalIPs",
            )
        return service.addresses[0]

    def _must_take_routes(self) -> None:
        if self.ingress_unusable:
            what = f"requests through {self.cluster.spec.ingress or 'an ingress gateway'} of {self.cluster}"
            raise Unavailable(what, self.ingress_unusable, NAME_AN_INGRESS)

    @property
    def gateway_addresses(self) -> tuple[str, ...]:
        """External addresses of the east-west gateway; empty if there is none."""
        return self.east_west.addresses if self.east_west else ()

    def ca_files(self) -> CaFiles:
        """The plug-in CA. Raises `ClaimFailed` if the secret is missing: then istiod uses a self-signed CA.

        Raises `Unavailable` if the user may not read it.
        """
        if self.ca_withheld:
            raise Unavailable(
                f"secret {names.SYSTEM_NAMESPACE}/{names.CACERTS} of {self.cluster}",
                self.ca_withheld,
                "grant the right to get it (docs/attach.md)",
            )
        if self.ca is None:
            raise ClaimFailed(f"{self.cluster} has no secret {names.SYSTEM_NAMESPACE}/{names.CACERTS}")
        return self.ca


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """All clusters at one moment, and the certificates of their proxies, read on first use."""

    mesh: Mesh
    facts: tuple[ClusterFacts, ...]
    _identities: dict[str, Identity | None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def take(cls, mesh: Mesh) -> Snapshot:
        """Read all clusters at once: six requests per cluster, seven per primary, for any number of pods."""
        configuring = {mesh.control_plane_of(cluster) for cluster in mesh.clusters if cluster.spec.ingress}
        policies: dict[str, tuple[Json, ...]] = {}

        def read(cluster: Cluster) -> ClusterFacts:
            if cluster in configuring:
                policies[cluster.name] = authorization_policies(cluster.kube)
            return _read(cluster)

        found = {facts.cluster.name: facts for facts in together(read, mesh.clusters)}

        def with_obstacle(facts: ClusterFacts) -> ClusterFacts:
            primary = found[mesh.control_plane_of(facts.cluster).name]
            envs = [pod.istiod_env for pod in primary.istiods]
            seen = policies.get(primary.cluster.name, ())
            shut = obstacle(facts.ingress, facts.ingress_pods, envs, seen, primary.cluster.name)
            return replace(facts, ingress_shut=shut)

        return cls(mesh=mesh, facts=tuple(with_obstacle(facts) for facts in found.values()))

    def of(self, cluster: Cluster) -> ClusterFacts:
        return next(facts for facts in self.facts if facts.cluster is cluster)

    @property
    def with_ingress(self) -> tuple[Cluster, ...]:
        """The clusters whose ingress gateway can be used for our requests."""
        return tuple(facts.cluster for facts in self.facts if not facts.ingress_unusable)

    @property
    def without_ingress(self) -> Mapping[str, str]:
        """The ingress gateways that are not tested, and why."""
        return {f"ingress gateway of {f.cluster}": f.ingress_unusable for f in self.facts if f.ingress_unusable}

    def issuer_of(self, cluster: Cluster) -> CaFiles:
        """The plug-in CA of the control plane that signs for this cluster's workloads."""
        return self.of(self.mesh.control_plane_of(cluster)).ca_files()

    def identities(self) -> tuple[tuple[Cluster, PodFacts, Identity], ...]:
        """Certificate and root in use by every proxy; one `exec` each, once per snapshot.

        Pods deleted since the snapshot are omitted.
        """
        wanted = [(facts.cluster, pod) for facts in self.facts for pod in facts.proxies]
        with self._lock:
            missing = [(c, pod) for c, pod in wanted if _key(c, pod) not in self._identities]
            found = together(lambda item: _identity(*item), missing)
            self._identities.update({_key(*item): got for item, got in zip(missing, found, strict=True)})
        held = [(cluster, pod, self._identities[_key(cluster, pod)]) for cluster, pod in wanted]
        return tuple((cluster, pod, identity) for cluster, pod, identity in held if identity is not None)


def _identity(cluster: Cluster, pod: PodFacts) -> Identity | None:
    try:
        return identity_of(cluster.kube, pod.namespace, pod.name)
    except NotReady:
        now = cluster.kube.find("Pod", pod.name, pod.namespace)
        if now is None or pod_facts(now).leaving:
            return None
        raise


def _key(cluster: Cluster, pod: PodFacts) -> str:
    return f"{cluster} {pod}"


def _read(cluster: Cluster) -> ClusterFacts:
    kube = cluster.kube
    ca, withheld = ca_of(kube)
    return ClusterFacts(
        cluster=cluster,
        pods=tuple(pod_facts(pod) for pod in kube.list("Pod")),
        services=tuple(service_facts(service) for service in kube.list("Service")),
        app_endpoints=_endpoints(kube),
        ca=ca,
        root_maps=_roots(kube),
        ca_withheld=withheld,
    )


def _endpoints(kube: Kube) -> tuple[EndpointFacts, ...]:
    service = kube.find("Service", names.APP_SERVICE, names.APP_NAMESPACE)
    if service is None:
        return ()
    port = next((p.name for p in service_facts(service).ports if p.number == names.APP_PORT), "")
    slices = kube.list("EndpointSlice", names.APP_NAMESPACE, labels=f"{SERVICE_OF_SLICE}={names.APP_SERVICE}")
    return endpoint_facts(slices, port)


def ca_of(kube: Kube) -> tuple[CaFiles | None, str]:
    """The plug-in CA, or the API server's message if it may not be read."""
    try:
        secret = kube.find("Secret", names.CACERTS, names.SYSTEM_NAMESPACE)
    except ApiError as problem:
        if problem.status != FORBIDDEN:
            raise
        return None, problem.reason
    if secret is None:
        return None, ""
    decoded = {name: base64.b64decode(text) for name, text in (secret.get("data") or {}).items()}
    return CaFiles(files=MappingProxyType(decoded)), ""


def _roots(kube: Kube) -> Mapping[str, str]:
    found = kube.get(path_of("ConfigMap"), fieldSelector=f"metadata.name={ROOT_MAP}")["items"]
    return MappingProxyType(
        {item["metadata"]["namespace"]: (item.get("data") or {}).get(ROOT_KEY, "") for item in found}
    )
