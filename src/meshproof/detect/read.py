"""Reads one cluster's part in a mesh with seven read requests, without inferring anything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import yaml

from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.core import names
from meshproof.core.errors import Unavailable
from meshproof.core.model import GatewayRef
from meshproof.core.names import INJECTOR_LABEL, PROXY
from meshproof.discovery.naming import CLUSTER, INJECTOR_MAP, MESH, NETWORK, of_injection_path
from meshproof.discovery.remote_secrets import RemoteSecret, remote_secrets
from meshproof.mesh.objects import SERVICE_OF_SLICE, ServiceFacts, labels_of, service_facts
from meshproof.mesh.webhooks import Webhook, parse_webhook

TRUST_DOMAIN: Final = "trust domain"
REVISION: Final = "revision"
ISTIO_TRUST_DOMAIN: Final = "cluster.local"
"""istiod's default trust domain (mesh configuration, `trustDomain`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """A setting of a cluster, with the place where it was found."""

    what: str
    value: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IstiodDeployment:
    """One Deployment of istiod; `image` is its container's, `domain` the cluster domain."""

    name: str
    revision: str
    image: str
    replicas: int
    domain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterReading:
    """One cluster. `traits` are its settings, the most authoritative place first.

    `hooks` inject its pods; `dials` are the addresses behind istiod Services without pods, and those
    in URLs of webhooks. `controllers` is the annotation with the clusters whose istiods may control it. `services`
    are those of all namespaces, `fronts` the ones whose pods are gateways. `secrets_withheld` is the API server's
    traits if remote secrets may not be read. `app_version` is that of the demonstration service, if it runs.
    """

    kube: Kube
    has_namespace: bool
    istiods: tuple[IstiodDeployment, ...]
    traits: tuple[Trait, ...]
    hooks: tuple[Webhook, ...]
    dials: tuple[str, ...]
    controllers: tuple[str, ...]
    services: tuple[ServiceFacts, ...]
    fronts: tuple[ServiceFacts, ...]
    secrets: tuple[RemoteSecret, ...]
    secrets_withheld: str
    app_version: str

    @property
    def gateways(self) -> tuple[ServiceFacts, ...]:
        """Services for traffic from other clusters."""
        return tuple(service for service in self.services if service.addresses and _is_for_clusters(service))

    @property
    def there(self) -> frozenset[GatewayRef]:
        """All Services as gateway references."""
        return frozenset(service.ref for service in self.services)

    @property
    def east_wests(self) -> tuple[ServiceFacts, ...]:
        """The Services that may be the east-west gateway's."""
        return tuple(service for service in self.fronts if _is_for_clusters(service))

    @property
    def ingresses(self) -> tuple[ServiceFacts, ...]:
        """The Services that may be the ingress gateway's: they have port 80, and are not for other clusters."""
        return tuple(s for s in self.fronts if names.PORT_INGRESS in s.port_numbers and not _is_for_clusters(s))


def _is_for_clusters(service: ServiceFacts) -> bool:
    """Whether it has a multi-cluster port, or a network."""
    wanted = {names.PORT_SERVICES, names.PORT_XDS, names.PORT_WEBHOOK}
    return bool(wanted & service.port_numbers) or names.NETWORK_LABEL in service.labels


def read(kube: Kube) -> ClusterReading:
    """Read one cluster. Missing or unparsable settings are omitted."""
    system = names.SYSTEM_NAMESPACE
    namespace = kube.find("Namespace", system)
    everywhere = kube.list("Deployment")
    deployments = [d for d in _in(system, everywhere) if labels_of(d).get("app") == "istiod"]
    configurations = kube.list("MutatingWebhookConfiguration", labels=INJECTOR_LABEL)
    services = kube.list("Service")
    facts = tuple(service_facts(service) for service in services)
    secrets, withheld = _secrets(kube)
    meta: Json = (namespace or {}).get("metadata") or {}
    network = (meta.get("labels") or {}).get(names.NETWORK_LABEL, "")
    place = f"label {names.NETWORK_LABEL} of namespace {system}"
    traits = [
        *_of_istiods(deployments),
        *_of_config_maps(kube.list("ConfigMap", system), {_revision(d) for d in deployments}),
        *_of_webhooks(configurations, is_primary=bool(deployments)),
        Trait(what=NETWORK, value=network, place=place),
    ]
    hooks = tuple(parse_webhook(hook) for found in configurations for hook in found.get("webhooks") or [])
    by_url = {hook.host: None for hook in hooks if not hook.host.endswith(".svc")}
    return ClusterReading(
        kube=kube,
        has_namespace=namespace is not None,
        istiods=tuple(_istiod(deployment) for deployment in deployments),
        traits=tuple(each for each in dict.fromkeys(traits) if each.value),
        hooks=hooks,
        dials=(*_dialled(_in(system, services), kube.list("EndpointSlice", system)), *by_url),
        controllers=_listed((meta.get("annotations") or {}).get(names.CONTROL_PLANES_ANNOTATION, "")),
        services=facts,
        fronts=tuple(_fronts(facts, everywhere)),
        secrets=secrets,
        secrets_withheld=withheld,
        app_version=_app_version(_in(names.APP_NAMESPACE, everywhere)),
    )


def _secrets(kube: Kube) -> tuple[tuple[RemoteSecret, ...], str]:
    try:
        return remote_secrets(kube), ""
    except Unavailable as problem:
        return (), problem.reason


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _revision(thing: Json) -> str:
    return str(labels_of(thing).get(names.REVISION_LABEL) or names.DEFAULT_REVISION)


def _istiod(deployment: Json) -> IstiodDeployment:
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return IstiodDeployment(
        name=deployment["metadata"]["name"],
        revision=_revision(deployment),
        image=str(containers[0].get("image", "")),
        replicas=int((deployment.get("status") or {}).get("readyReplicas") or 0),
        domain=_domain(containers[0].get("args") or []),
    )


def _domain(arguments: Sequence[str]) -> str:
    """The cluster domain from istiod's arguments (chart istio-discovery, `global.proxy.clusterDomain`)."""
    joined = next((a.partition("=")[2] for a in arguments if a.startswith("--domain=")), "")
    after = next((value for flag, value in pairwise(arguments) if flag == "--domain"), "")
    return joined or after or names.CLUSTER_DOMAIN


def _of_istiods(deployments: Iterable[Json]) -> Iterator[Trait]:
    for deployment in deployments:
        place = f"Deployment {deployment['metadata']['name']}"
        containers = deployment["spec"]["template"]["spec"]["containers"]
        env = {e["name"]: e.get("value", "") for c in containers for e in c.get("env") or []}
        yield Trait(what=CLUSTER, value=env.get("CLUSTER_ID", ""), place=f"{place}, CLUSTER_ID")
        yield Trait(what=REVISION, value=_revision(deployment), place=f"{place}, label {names.REVISION_LABEL}")


def _of_config_maps(config_maps: Iterable[Json], revisions: set[str]) -> Iterator[Trait]:
    """Settings in mesh configuration and injector values of existing istiods: others may be leftovers."""
    meshes = {names.of_revision(names.MESH_CONFIG, revision) for revision in revisions}
    injectors = {names.of_revision(INJECTOR_MAP, revision) for revision in revisions}
    for found in config_maps:
        name, data = found["metadata"]["name"], found.get("data") or {}
        place = f"ConfigMap {name}"
        if name in injectors:
            values = _mapping(data.get("values")).get("global") or {}
            cluster = (values.get("multiCluster") or {}).get("clusterName") or ""
            yield Trait(what=CLUSTER, value=cluster, place=f"{place}, global.multiCluster.clusterName")
            yield Trait(what=NETWORK, value=values.get("network") or "", place=f"{place}, global.network")
            yield Trait(what=MESH, value=values.get("meshID") or "", place=f"{place}, global.meshID")
        if name in meshes:
            mesh = _mapping(data.get("mesh"))
            domain = mesh.get("trustDomain") or ISTIO_TRUST_DOMAIN
            yield Trait(what=TRUST_DOMAIN, value=str(domain), place=f"{place}, trustDomain")
            for alias in mesh.get("trustDomainAliases") or []:
                yield Trait(what=TRUST_DOMAIN, value=str(alias), place=f"{place}, trustDomainAliases")


def _of_webhooks(configurations: Iterable[Json], *, is_primary: bool) -> Iterator[Trait]:
    """In a remote the webhook's path names cluster and network."""
    for configuration in configurations:
        if is_primary or names.TAG_LABEL in (configuration["metadata"].get("labels") or {}):
            continue
        place = f"webhook {configuration['metadata']['name']}"
        for hook in configuration.get("webhooks") or []:
            for each in of_injection_path(parse_webhook(hook)):
                yield Trait(what=each.what, value=each.value, place=f"{place}, injection path")
        yield Trait(what=REVISION, value=_revision(configuration), place=f"{place}, label {names.REVISION_LABEL}")


def _mapping(text: str | None) -> Mapping[str, Any]:
    """The mapping in JSON or YAML text; an empty one if it is something else."""
    try:
        found = json.loads(text or "")
    except ValueError:
        try:
            found = yaml.safe_load(text or "")
        except yaml.YAMLError:
            found = None
    return found if isinstance(found, dict) else {}


def _dialled(services: Iterable[Json], slices: Iterable[Json]) -> Iterator[str]:
    """The endpoints of istiod Services without a selector (chart istio-discovery, remote-istiod-service.yaml)."""
    foreign = set()
    for service in services:
        spec, name = service.get("spec") or {}, service["metadata"]["name"]
        if name != names.ISTIOD and not name.startswith(f"{names.ISTIOD}-"):
            continue
        if spec.get("externalName"):
            yield str(spec["externalName"])
        elif not spec.get("selector"):
            foreign.add(name)
    for found in slices:
        if (found["metadata"].get("labels") or {}).get(SERVICE_OF_SLICE) in foreign:
            for endpoint in found.get("endpoints") or []:
                yield from (str(address) for address in endpoint.get("addresses") or [])


def _in(namespace: str, items: Iterable[Json]) -> list[Json]:
    return [item for item in items if item["metadata"]["namespace"] == namespace]


def _fronts(services: Iterable[ServiceFacts], deployments: Iterable[Json]) -> Iterator[ServiceFacts]:
    """Services whose pods are gateways: injected by that template, or with a proxy in router mode."""
    gateways = [d for d in deployments if _is_gateway(d["spec"]["template"])]
    behind = [(d["metadata"]["namespace"], labels_of(d["spec"]["template"])) for d in gateways]
    for service in services:
        wanted = service.selector.items()
        if wanted and any(place == service.namespace and wanted <= labels.items() for place, labels in behind):
            yield service


def _is_gateway(template: Json) -> bool:
    meta: Json = template.get("metadata") or {}
    chosen = (meta.get("annotations") or {}).get("inject.istio.io/templates", "")
    containers = (template.get("spec") or {}).get("containers") or []
    routers = [c for c in containers if c["name"] == PROXY and "router" in (c.get("args") or [])]
    return "gateway" in _listed(chosen) or bool(routers)


def _app_version(found: Iterable[Json]) -> str:
    """The version of the demonstration service that these Deployments run; empty if there is none, or several."""
    labels = [labels_of(item["spec"]["template"]) for item in found]
    versions = {label.get("version", "") for label in labels if label.get("app") == names.APP_SERVICE}
    return versions.pop() if len(versions) == 1 else ""
