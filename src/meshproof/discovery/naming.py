"""Where the names of cluster, network and mesh are configured, and whether they agree."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from typing import Final

from meshproof.clients.kubernetes.client import Json, path_of
from meshproof.core import names
from meshproof.discovery.remote_secrets import RemoteSecret
from meshproof.mesh.handles import Cluster
from meshproof.mesh.objects import PodFacts
from meshproof.mesh.snapshot import ClusterFacts, Snapshot
from meshproof.mesh.webhooks import Webhook, injection_webhooks

INJECTOR_MAP: Final = "istio-sidecar-injector"
CLUSTER: Final = "cluster"
NETWORK: Final = "network"
MESH: Final = "mesh"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredName:
    """One place where one name is configured; `value` is empty if it is not, and `required` whether it must be."""

    place: str
    what: str
    value: str
    required: bool = True


def configured_names(snapshot: Snapshot, cluster: Cluster) -> list[ConfiguredName]:
    """Every place in one cluster."""
    facts = snapshot.of(cluster)
    networks = len(snapshot.mesh.topology.networks) > 1
    namespace = cluster.kube.find("Namespace", names.SYSTEM_NAMESPACE) or {}
    found = [
        ConfiguredName(
            place=f"namespace {names.SYSTEM_NAMESPACE}, label {names.NETWORK_LABEL}",
            what=NETWORK,
            value=str((namespace.get("metadata", {}).get("labels") or {}).get(names.NETWORK_LABEL, "")),
            required=networks and not any(cluster.name in gateway.registries for gateway in facts.settings.declared),
        )
    ]
    if cluster.is_primary:
        found += _of_primary(cluster)
    else:
        found += [each for hook in injection_webhooks(cluster.kube) for each in of_injection_path(hook)]
    found += [each for pod in facts.proxies for each in of_proxy(pod, networks=networks)]
    if snapshot.mesh.topology.exposes_services(cluster.spec):
        found += of_gateway(facts)
    return found


def _of_primary(cluster: Cluster) -> Iterator[ConfiguredName]:
    for deployment in cluster.kube.list("Deployment", names.SYSTEM_NAMESPACE, labels="app=istiod"):
        yield of_istiod(deployment)
    for found in cluster.kube.get(path_of("ConfigMap", names.SYSTEM_NAMESPACE))["items"]:
        if found["metadata"]["name"].partition(INJECTOR_MAP)[1] and "values" in (found.get("data") or {}):
            yield from of_injector(found)


def of_istiod(deployment: Json) -> ConfiguredName:
    """`CLUSTER_ID` of istiod: its name for its own cluster."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    env = {e["name"]: e.get("value", "") for c in containers for e in c.get("env") or []}
    place = f"Deployment {deployment['metadata']['name']}, CLUSTER_ID"
    return ConfiguredName(place=place, what=CLUSTER, value=env.get("CLUSTER_ID", ""))


def of_injector(config: Json) -> Iterator[ConfiguredName]:
    """The values from which istiod fills in the pods of its own cluster (chart istio-discovery)."""
    place = f"ConfigMap {config['metadata']['name']}, global"
    values = json.loads(config["data"]["values"]).get("global") or {}
    cluster = (values.get("multiCluster") or {}).get("clusterName") or ""
    yield ConfiguredName(place=f"{place}.multiCluster.clusterName", what=CLUSTER, value=cluster)
    yield ConfiguredName(place=f"{place}.network", what=NETWORK, value=values.get("network") or "")
    # Without it proxies get the trust domain for the mesh's name, which is compared there.
    yield ConfiguredName(place=f"{place}.meshID", what=MESH, value=values.get("meshID") or "", required=False)


def of_injection_path(hook: Webhook) -> Iterator[ConfiguredName]:
    """`/inject/cluster/<cluster>/net/<network>`: what a primary sets in a remote's pods."""
    parts = hook.path.strip("/").split("/")
    given = dict(zip(parts[1::2], parts[2::2], strict=False))
    place = f"webhook {hook.name}, {hook.path}"
    yield ConfiguredName(place=place, what=CLUSTER, value=given.get("cluster", ""))
    yield ConfiguredName(place=place, what=NETWORK, value=given.get("net", ""))


def of_remote_secrets(secrets: Iterable[RemoteSecret], clusters: Set[str], own: str) -> dict[str, list[str]]:
    """Per remote secret of a primary whether its key is the name of another cluster; empty lists are good. One for
    the own cluster is ignored by istiod: secrets are often the same everywhere."""
    others = ", ".join(sorted(clusters - {own}))
    return {
        f"{secret}, key ({CLUSTER})": [] if secret.cluster in clusters - {own} else [f"{secret.cluster}, not {others}"]
        for secret in secrets
        if secret.cluster != own
    }


_ENV: Final = {CLUSTER: "ISTIO_META_CLUSTER_ID", NETWORK: "ISTIO_META_NETWORK", MESH: "ISTIO_META_MESH_ID"}


def of_proxy(pod: PodFacts, *, networks: bool) -> Iterator[ConfiguredName]:
    """What the proxy of a pod reports to istiod, and the label by which istiod knows the network of its endpoints."""
    for what, name in _ENV.items():
        value = (pod.proxy_env or {}).get(name, "")
        yield ConfiguredName(place=f"{pod}, {name}", what=what, value=value, required=networks or what != NETWORK)
    if names.NETWORK_LABEL in pod.labels:
        place = f"{pod}, label {names.NETWORK_LABEL}"
        yield ConfiguredName(place=place, what=NETWORK, value=pod.labels[names.NETWORK_LABEL])


VIEW: Final = "ISTIO_META_REQUESTED_NETWORK_VIEW"


def of_gateway(facts: ClusterFacts) -> Iterator[ConfiguredName]:
    """The Service's label makes it a gateway into the network, unless meshNetworks names gateways; the view keeps its
    endpoints to that network."""
    if facts.east_west is not None:
        place = f"Service {facts.east_west}, label {names.NETWORK_LABEL}"
        value = facts.east_west.labels.get(names.NETWORK_LABEL, "")
        declared = any(gateway.network == facts.cluster.network for gateway in facts.settings.declared)
        yield ConfiguredName(place=place, what=NETWORK, value=value, required=not declared)
    for pod in facts.east_west_pods:
        yield ConfiguredName(place=f"{pod}, {VIEW}", what=NETWORK, value=(pod.proxy_env or {}).get(VIEW, ""))


def identity_problems(found: list[ConfiguredName], cluster: str, network: str, mesh_id: str) -> dict[str, list[str]]:
    """Per place and name what is wrong with it; empty lists are good."""
    wanted = {CLUSTER: cluster, NETWORK: network, MESH: mesh_id}
    result: dict[str, list[str]] = {}
    for each in found:
        expected = wanted[each.what]
        good = each.value == expected or (not each.value and not each.required)
        shown = each.value or "missing"
        result[f"{each.place} ({each.what})"] = [] if good else [f"the {each.what} is {shown}, expected {expected}"]
    return result
