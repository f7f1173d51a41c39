"""A snapshot of all clusters, shared by the claims that check the same moment."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from meshproof.clients.envoy_admin import Identity, identity_of
from meshproof.clients.istio import istiod_debug
from meshproof.clients.istio.istiod_debug import NetworkGateway
from meshproof.clients.kubernetes.client import Json, Kube, label_selector, path_of
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import Broken, ClaimFailed, NotReady, Unavailable
from meshproof.core.model import GatewayRef
from meshproof.core.names import ROOT_MAP
from meshproof.mesh.ca_files import EXTERNAL_CA, SELF_SIGNED, CaFiles, MeshCa, ca_of, external_ca, external_ca_of
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.ingress_obstacles import authorization_policies, obstacle
from meshproof.mesh.mesh_config import MeshSettings, settings_for_snapshot
from meshproof.mesh.network_gateways import gateway_port, gateways_into, is_address, resolver
from meshproof.mesh.objects import (
    SERVICE_OF_SLICE,
    EndpointFacts,
    PodFacts,
    ServiceFacts,
    endpoint_facts,
    pod_facts,
    service_facts,
)

ROOT_KEY: Final = "root-cert.pem"
"""The ConfigMap, and its key, from which the proxies of a namespace get their trusted root."""


NAME_AN_INGRESS: Final = "name an ingress gateway that accepts them in the topology file (docs/attach.md)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """The state of one cluster. `root_maps` is the text of `istio-ca-root-cert` per namespace.

    `ca` is the CA in a secret of the cluster; in a remote it is no one's, as far as istiod is concerned. `ca_withheld`
    is the API server's message if the user may not read it. `ingress_shut` is why the ingress gateway ignores our
    configuration, if it does; `policies` are the AuthorizationPolicies of a primary. `settings` are those of the
    mesh, `resolved` the addresses of gateways that have host names.
    """

    cluster: Cluster
    pods: tuple[PodFacts, ...]
    services: tuple[ServiceFacts, ...]
    app_endpoints: tuple[EndpointFacts, ...]
    ca: CaFiles | None
    root_maps: Mapping[str, str]
    ca_withheld: str = ""
    ingress_shut: str = ""
    policies: tuple[Json, ...] = ()
    settings: MeshSettings = field(default_factory=MeshSettings)
    resolved: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

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

    @property
    def gateways_between_clusters(self) -> tuple[ServiceFacts, ...]:
        """The Services of gateways into this cluster's network: the topology's, and any other that istiod finds."""
        spec = self.cluster.spec
        return tuple(
            s for s in self.services if s.ref == spec.east_west or gateway_port(s, spec, self.settings.declared)
        )

    @property
    def service_gateway_pods(self) -> tuple[PodFacts, ...]:
        """The live pods behind them."""
        behind = (pod for service in self.gateways_between_clusters for pod in self._behind(service))
        return tuple({str(pod): pod for pod in behind}.values())

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
    def network_gateways(self) -> tuple[NetworkGateway, ...]:
        """Every gateway into this cluster's network that istiod must know from its Services or from the mesh
        configuration; host names are resolved."""
        return tuple(
            replace(gateway, address=address)
            for gateway in gateways_into(self.cluster.spec, self.services, self.settings.declared)
            for address in self.resolved.get(gateway.address, (gateway.address,))
        )

    @property
    def service_gateways(self) -> tuple[tuple[str, int], ...]:
        """Address and port of the gateways through which other networks reach this cluster's services: its own, and
        if it has none, those of no cluster (`selectNetworkGateways`). Empty if there are none."""
        found = self.network_gateways
        own = [gateway for gateway in found if gateway.cluster] or found
        return tuple(dict.fromkeys((gateway.address, gateway.port) for gateway in own))

    @property
    def gateway_addresses(self) -> tuple[str, ...]:
        """External addresses of the topology's east-west gateway; empty if there is none."""
        return self.addresses_of(self.east_west) if self.east_west else ()

    def addresses_of(self, service: ServiceFacts) -> tuple[str, ...]:
        """The external addresses of a Service; host names of gateways between clusters are resolved."""
        return tuple(found for address in service.addresses for found in self.resolved.get(address, (address,)))

    def ca_files(self) -> CaFiles:
        """The CA in a secret. Raises `ClaimFailed` if there is none, and `Unavailable` if the user may not read it."""
        if self.ca_withheld:
            raise Unavailable(
                f"secret {names.SYSTEM_NAMESPACE}/{names.CACERTS} of {self.cluster}",
                self.ca_withheld,
                "grant the right to get it (docs/attach.md)",
            )
        if self.ca is None:
            raise ClaimFailed(
                f"{self.cluster} has no secret {names.SYSTEM_NAMESPACE}/{names.CACERTS} or {SELF_SIGNED}, and no "
                f"external CA ({EXTERNAL_CA} of istiod): its next istiod makes a new root"
            )
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
        """Read all clusters at once: six requests per cluster, eight per primary, for any number of pods."""
        found = {facts.cluster.name: facts for facts in together(_read, mesh.clusters)}
        primaries = {name: found[mesh.control_plane_of(facts.cluster).name] for name, facts in found.items()}
        looked = [
            replace(each, ingress_shut=_obstacle(each, primaries[name]), settings=primaries[name].settings)
            for name, each in found.items()
        ]
        return cls(mesh=mesh, facts=tuple(_with_addresses(each, primaries[each.cluster.name]) for each in looked))

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

    def issuer_of(self, cluster: Cluster) -> MeshCa:
        """The CA of the control plane that signs for this cluster's workloads: by the switches of its istiod an
        external one, known by what it issued, else that in its secret."""
        primary = self.of(self.mesh.control_plane_of(cluster))
        why = external_ca_of(primary.istiods)
        if not why:
            return primary.ca_files()
        governed = self.mesh.controlled_by(primary.cluster)
        held = (identity for holder, _, identity in self.identities() if holder in governed)
        settings = istiod_debug.mesh_config(primary.cluster.kube, primary.istiods[0].name)
        configured = (str(each.get("pem") or "") for each in settings.get("caCertificates") or [])
        return external_ca(why, held, primary.root_maps.get(names.SYSTEM_NAMESPACE, ""), configured)

    @property
    def unused_ca(self) -> Mapping[Cluster, CaFiles]:
        """Plug-in CAs in clusters without an istiod, which would become theirs if they got one."""
        return {f.cluster: f.ca_files() for f in self.facts if not f.cluster.is_primary and (f.ca or f.ca_withheld)}

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


def _obstacle(facts: ClusterFacts, primary: ClusterFacts) -> str:
    envs = [pod.istiod_env for pod in primary.istiods]
    root = primary.settings.root_namespace
    return obstacle(facts.ingress, facts.ingress_pods, envs, primary.policies, root, primary.cluster.name)


def _with_addresses(facts: ClusterFacts, primary: ClusterFacts) -> ClusterFacts:
    """With the addresses of gateways that have host names (clouds give them to load balancers), as istiod resolves
    them."""
    named = {each.address for each in facts.network_gateways}
    named |= set(facts.east_west.addresses if facts.east_west else ())
    hosts = {address for address in named if not is_address(address)}
    if not hosts:
        return facts
    clients = primary.pods_of(names.OUTSIDE_NAMESPACE, app=names.CLIENT_POD)
    resolve = resolver(primary.cluster.kube, next((pod for pod in clients if pod.ready), None))
    return replace(facts, resolved=MappingProxyType({host: resolve(host) for host in sorted(hosts)}))


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
    ca, withheld = ca_of(kube) if cluster.is_primary else ca_of(kube, (names.CACERTS,))
    return ClusterFacts(
        cluster=cluster,
        pods=tuple(pod_facts(pod) for pod in kube.list("Pod")),
        services=tuple(service_facts(service) for service in kube.list("Service")),
        app_endpoints=_endpoints(kube),
        ca=ca,
        root_maps=_roots(kube),
        ca_withheld=withheld,
        settings=settings_for_snapshot(cluster) if cluster.is_primary else MeshSettings(),
        policies=authorization_policies(kube) if cluster.is_primary else (),
    )


def _endpoints(kube: Kube) -> tuple[EndpointFacts, ...]:
    service = kube.find("Service", names.APP_SERVICE, names.APP_NAMESPACE)
    if service is None:
        return ()
    port = next((p.name for p in service_facts(service).ports if p.number == names.APP_PORT), "")
    slices = kube.list("EndpointSlice", names.APP_NAMESPACE, labels=f"{SERVICE_OF_SLICE}={names.APP_SERVICE}")
    return endpoint_facts(slices, port)


def _roots(kube: Kube) -> Mapping[str, str]:
    found = kube.get(path_of("ConfigMap"), fieldSelector=f"metadata.name={ROOT_MAP}")["items"]
    return MappingProxyType(
        {item["metadata"]["namespace"]: (item.get("data") or {}).get(ROOT_KEY, "") for item in found}
    )
