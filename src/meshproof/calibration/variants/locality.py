"""Variants of locality: where the nodes are, and load balancing that follows it."""

from __future__ import annotations

from typing import Final

from meshproof.calibration.variants.common import SYSTEM, add_everywhere, restart_proxies, set_mesh_configs, thing
from meshproof.calibration.variants.variant import Variant
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.faults.editor import JournalledEditor

OUTLIERS: Final[Json] = {
    "host": "*.local",
    "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 5, "interval": "10s", "baseEjectionTime": "30s"}},
}


STAY: Final = 75
"""The share that stays in a region, in percent."""


def _regions(editor: JournalledEditor) -> None:
    """A region and zone for the nodes of each cluster. istiod reads them when a proxy connects."""
    for number, cluster in enumerate(editor.mesh.clusters, start=1):
        labels = {
            "topology.kubernetes.io/region": f"region{number}",
            "topology.kubernetes.io/zone": f"region{number}-a",
        }

        def change(node: Json, labels: dict[str, str] = labels) -> None:
            node["metadata"].setdefault("labels", {}).update(labels)

        for node in cluster.kube.list("Node"):
            editor.edit(cluster, "Node", node["metadata"]["name"], None, change)
    restart_proxies(editor)


def _regions_outliers(editor: JournalledEditor) -> None:
    add_everywhere(editor, editor.mesh.primaries, thing("DestinationRule", "outliers", SYSTEM, spec=OUTLIERS))
    _regions(editor)


def _distribute(editor: JournalledEditor) -> None:
    """`STAY` percent of the requests stay in their region, the others are spread over the other regions."""
    regions = [f"region{number}" for number in range(1, len(editor.mesh.clusters) + 1)]
    others = 100 - STAY
    rules: list[Json] = []
    for region in regions:
        rest = [other for other in regions if other != region]
        shares = {f"{other}/*": others // len(rest) for other in rest}
        shares[f"{region}/*"] = 100 - sum(shares.values())
        rules.append({"from": f"{region}/*", "to": shares})
    set_mesh_configs(editor, {"localityLbSetting": {"enabled": True, "distribute": rules}})
    _regions_outliers(editor)


def _prefer_close(editor: JournalledEditor) -> None:
    def change(service: Json) -> None:
        service["spec"]["trafficDistribution"] = "PreferClose"

    for cluster in editor.mesh.clusters:
        editor.edit(cluster, "Service", names.APP_SERVICE, names.APP_NAMESPACE, change)
    _regions(editor)


LOCALITY: Final = (
    Variant(
        id="regions",
        sentence="each cluster is in a region and zone of its own",
        legal="Kubernetes, Well-Known Labels: topology.kubernetes.io/region; istio.io, Locality Load Balancing",
        apply=_regions,
    ),
    Variant(
        id="regions-outliers",
        sentence="each cluster is in a region of its own, with outlier detection mesh-wide: locality failover is on",
        legal="istio.io, Locality Load Balancing: failover needs outlierDetection in a DestinationRule",
        apply=_regions_outliers,
        still_kills=("P11",),
    ),
    Variant(
        id="regions-distribute",
        sentence="three of four requests stay in their region, by the mesh configuration",
        legal="istio.io, Locality Load Balancing: weighted distribution; Global Mesh Options: localityLbSetting",
        apply=_distribute,
    ),
    Variant(
        id="prefer-close",
        sentence="the demonstration service's Service asks for close endpoints, in regions of their own",
        legal="Kubernetes, Services: trafficDistribution PreferClose",
        apply=_prefer_close,
        with_app=True,
        still_kills=("S1",),
    ),
)
