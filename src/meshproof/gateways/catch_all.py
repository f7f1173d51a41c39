"""Gateway objects of others that accept every host: what they do with unknown ones is their owner's decision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshproof.clients.istio.configuration import config_objects, place_of
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.mesh.handles import Mesh
from meshproof.mesh.objects import labels_of
from meshproof.mesh.snapshot import ClusterFacts


def catch_all_gateways(mesh: Mesh, facts: ClusterFacts) -> tuple[str, ...]:
    """The places of other people's Gateways that accept every host on port 80 of a cluster's ingress gateway."""
    objects = config_objects(mesh.control_plane_of(facts.cluster).kube, ["Gateway"])
    return catching_all(objects, [pod.labels for pod in facts.ingress_pods])


def catching_all(gateways: Iterable[Json], pods: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """Those of these Gateways that select one of the pods and accept every host on port 80."""
    pod_labels = [dict(labels) for labels in pods]
    return tuple(
        place_of(gateway)
        for gateway in gateways
        if not names.MANAGED_BY.items() <= labels_of(gateway).items()
        and any(((gateway["spec"].get("selector") or {}).items() <= labels.items()) for labels in pod_labels)
        and any(_accepts_every_host(server) for server in gateway["spec"].get("servers") or [])
    )


def _accepts_every_host(server: Json) -> bool:
    """A host may have the namespace of its VirtualServices in front: `*`, `./*`, `shop/*`."""
    at_port = (server.get("port") or {}).get("number") == names.PORT_INGRESS
    return at_port and any(str(host).rpartition("/")[2] == "*" for host in server.get("hosts") or [])
