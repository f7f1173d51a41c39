"""Variants of what others have on the same mesh."""

from __future__ import annotations

import json
from functools import partial
from typing import Final

from meshproof.calibration.variants.common import SECONDS, SYSTEM, thing, unlabelled
from meshproof.calibration.variants.variant import Variant
from meshproof.clients.istio.configuration import ingress_server, opened
from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.rollout import rollout_problem
from meshproof.core import names
from meshproof.core.waiting import NotYet, eventually
from meshproof.faults.editor import JournalledEditor
from meshproof.mesh.gateways import ingress_selectors
from meshproof.mesh.handles import Cluster
from meshproof.workloads.app import app_manifests

SHOP: Final = "bookshop"
OLD: Final = "legacy"
HOST: Final = "bookshop.example.com"


def _side_by_side(editor: JournalledEditor) -> None:
    """A shop in the mesh and an old application outside of it, in one cluster only, with the shop's configuration."""
    near = editor.near
    image = editor.mesh.toolbox.images["app"]
    for namespace, labels in ((SHOP, near.spec.injection_labels), (OLD, {})):
        manifest = thing("Namespace", namespace)
        manifest["metadata"]["labels"] = dict(labels)
        editor.add(near, manifest)
        # A pod that is created before istiod's root certificate is there waits long for it.
        eventually(partial(_root_is_in, near, namespace), what=f"{names.ROOT_MAP} in {namespace}", timeout_s=SECONDS)
        for item in app_manifests(near.spec, image, near.access.pull_secret):
            editor.add(near, unlabelled(_renamed(item, namespace)))
    for item in _configuration(editor, near):
        editor.add(near, item)


def _root_is_in(cluster: Cluster, namespace: str) -> None:
    if cluster.kube.find("ConfigMap", names.ROOT_MAP, namespace) is None:
        raise NotYet("it is not there")


def _they_run(editor: JournalledEditor) -> None:
    for namespace in (SHOP, OLD):
        for deployment in editor.near.kube.list("Deployment", namespace):
            if problem := rollout_problem(deployment):
                raise NotYet(f"{namespace}/{deployment['metadata']['name']}: {problem}")


def _renamed(manifest: Json, namespace: str) -> Json:
    """The demonstration service's manifest as another application in its own namespace."""
    text = json.dumps(manifest).replace(names.APP_NAMESPACE, namespace).replace(names.APP_SERVICE, "catalogue")
    renamed: Json = json.loads(text)
    return renamed


def _configuration(editor: JournalledEditor, near: Cluster) -> list[Json]:
    host = names.fqdn("catalogue", SHOP)
    gateways = opened("bookshop", SHOP, ingress_selectors(editor.mesh, near), [ingress_server([HOST])])
    route = {"match": [{"uri": {"prefix": "/"}}], "route": [{"destination": {"host": host}}], "timeout": "5s"}
    subset = {"name": "all", "labels": {"app": "catalogue"}}
    payment: Json = {
        "hosts": ["payments.example.com"],
        "location": "MESH_EXTERNAL",
        "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
        "resolution": "DNS",
    }
    served = [thing("Gateway", g["metadata"]["name"], SHOP, spec=g["spec"]) for g in gateways]
    at = [g["metadata"]["name"] for g in gateways]
    routed = [thing("VirtualService", "bookshop", SHOP, spec={"hosts": [HOST], "gateways": at, "http": [route]})]
    return [
        *served,
        *(routed if at else []),
        thing("DestinationRule", "catalogue", SHOP, spec={"host": host, "subsets": [subset]}),
        thing("PeerAuthentication", "default", SHOP, spec={"mtls": {"mode": "STRICT"}}),
        thing("ServiceEntry", "payments", SHOP, spec=payment),
        thing("Sidecar", "default", SHOP, spec={"egress": [{"hosts": ["./*", f"{SYSTEM}/*"]}]}),
    ]


NEIGHBOURS: Final = (
    Variant(
        id="side-by-side",
        sentence="one cluster has applications of somebody else, in and outside the mesh, with their own configuration",
        legal="istio.io, Deployment models: services of one cluster only; Sidecar injection: per namespace",
        apply=_side_by_side,
        has_taken_effect=_they_run,
        still_kills=("P7",),
    ),
)
