"""Variants of what proxies get to know: scope of sidecars, exports, and namespaces that istiod reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from meshproof.calibration.variants.common import SYSTEM, add_everywhere, namespaces_of, set_mesh_configs, thing
from meshproof.calibration.variants.variant import Variant
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.faults.editor import JournalledEditor

DISCOVERY_LABEL: Final = "istio-discovery"


def _sidecar_default(editor: JournalledEditor) -> None:
    scope = thing("Sidecar", "default", SYSTEM, spec={"egress": [{"hosts": ["./*", f"{SYSTEM}/*"]}]})
    add_everywhere(editor, editor.mesh.primaries, scope)


def _export_to(editor: JournalledEditor) -> None:
    kinds = ("Service", "VirtualService", "DestinationRule")
    set_mesh_configs(editor, {f"default{kind}ExportTo": ["."] for kind in kinds})


def _discovery_selectors(editor: JournalledEditor) -> None:
    """Every namespace has the label before istiod asks for it; those of ours that a run makes do not."""
    for cluster in editor.mesh.clusters:
        for name in namespaces_of(cluster):
            if not name.startswith(names.NAMESPACE_PREFIX):
                editor.edit(cluster, "Namespace", name, None, _labelled({DISCOVERY_LABEL: "enabled"}))
    set_mesh_configs(editor, {"discoverySelectors": [{"matchLabels": {DISCOVERY_LABEL: "enabled"}}]})


def _labelled(labels: dict[str, str]) -> Callable[[Json], None]:
    def change(found: Json) -> None:
        found["metadata"].setdefault("labels", {}).update(labels)

    return change


VISIBILITY: Final = (
    Variant(
        id="sidecar-default",
        sentence="sidecars know their own namespace and istio-system only",
        legal="istio.io, Sidecar: a configuration in the root namespace applies to all namespaces without one",
        apply=_sidecar_default,
        still_kills=("S1",),
    ),
    Variant(
        id="export-to",
        sentence="Services, VirtualServices and DestinationRules are visible in their own namespace only",
        legal="istio.io, Global Mesh Options: defaultServiceExportTo and its like",
        apply=_export_to,
        still_kills=("G4",),
    ),
    Variant(
        id="discovery-selectors",
        sentence="istiod reads labelled namespaces only",
        legal="istio.io, Global Mesh Options: discoverySelectors",
        apply=_discovery_selectors,
    ),
)
