"""Faults of certificates and identity."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from meshproof.claims.claim import TWO_PRIMARIES
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.core.names import ROOT_MAP
from meshproof.faults.catalogue.common import ACROSS, edit_mesh_config
from meshproof.faults.editor import Scene
from meshproof.faults.fault import Fault, stays
from meshproof.faults.undo import ISTIOD, SELF_SIGNED, WORKLOADS
from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import ROOT_KEY
from meshproof.pki import issue as pki

OTHER_DOMAIN: Final = "other.local"
SOON: Final = timedelta(days=10)


def set_ca(scene: Scene, cluster: Cluster, bundle: pki.CaBundle) -> None:
    """Another plug-in CA, which istiod reads when it starts."""
    scene.edit(cluster, "Secret", names.CACERTS, names.SYSTEM_NAMESPACE, lambda s: s | {"data": bundle.secret_data()})


def _renew(scene: Scene, primaries: tuple[Cluster, ...]) -> None:
    """New istiods first, then all that they sign for."""
    scene.restart(primaries, ISTIOD)
    scene.restart((cluster for primary in primaries for cluster in scene.mesh.controlled_by(primary)), WORKLOADS)


def _another_root(scene: Scene) -> None:
    set_ca(scene, scene.far, pki.plugin_ca(pki.make_root(), scene.far.name))
    _renew(scene, (scene.far,))


def _cacerts_too_late(scene: Scene) -> None:
    original = scene.remove(scene.near, "Secret", names.CACERTS, names.SYSTEM_NAMESPACE)
    _renew(scene, (scene.near,))
    again = cacerts_secret_of(original)
    scene.add(scene.near, again)
    scene.forget_added(scene.near, "Secret", SELF_SIGNED, names.SYSTEM_NAMESPACE)


def cacerts_secret_of(original: Json) -> Json:
    """The same secret, made anew."""
    meta = {"name": names.CACERTS, "namespace": names.SYSTEM_NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": original["data"]}


def near_ends_in(scene: Scene, left: timedelta) -> None:
    """New CAs everywhere; that of the near cluster is valid for so long only."""
    root = pki.make_root()
    for cluster in scene.mesh.clusters:
        life = left if cluster is scene.near else pki.INTERMEDIATE_LIFE
        set_ca(scene, cluster, pki.plugin_ca(root, cluster.name, life=life))
    _renew(scene, scene.mesh.primaries)


def _near_its_end(scene: Scene) -> None:
    near_ends_in(scene, SOON)


def _over(scene: Scene) -> None:
    now = datetime.now(UTC)
    root = pki.make_root(now=now - timedelta(days=800))
    past = pki.make_intermediate(root, locality=scene.near.name, now=now - timedelta(days=740))
    set_ca(scene, scene.near, pki.bundle_of(past))


def _key_of_another(scene: Scene) -> None:
    break_key(scene, scene.far)


def break_key(scene: Scene, cluster: Cluster) -> None:
    """A CA key that belongs to another certificate, in the plug-in CA of a cluster."""
    other = pki.plugin_ca(pki.make_root(), "other").secret_data()

    def change(secret: Json) -> None:
        secret["data"][pki.CA_KEY] = other[pki.CA_KEY]

    scene.edit(cluster, "Secret", names.CACERTS, names.SYSTEM_NAMESPACE, change)


def _other_domain(scene: Scene) -> None:
    edit_mesh_config(scene, scene.far, {"trustDomain": OTHER_DOMAIN})
    _renew(scene, (scene.far,))


def _root_map_overwritten(scene: Scene) -> None:
    other = pki.pem_of(pki.make_root().cert).decode()
    scene.edit(scene.far, "ConfigMap", ROOT_MAP, names.CLIENT_NAMESPACE, lambda m: m | {"data": {ROOT_KEY: other}})


TRUST: Final = (
    Fault(
        id="T1",
        sentence="one cluster's cacerts come from another root",
        seen="TLS errors on the remote share only",
        source="istio.io, Plug in CA Certificates; istio/istio issues on 'certificate signed by unknown authority'",
        needs=(TWO_PRIMARIES,),
        kills=("TRUST-02", "TRUST-05"),
        also=(*ACROSS, "DISCOVERY-04"),
        inject=_another_root,
    ),
    Fault(
        id="T2",
        sentence="cacerts came after istiod had started: it signs with a CA that it made itself",
        seen="nothing in one cluster; TLS errors between primaries",
        source="istio.io, Plug in CA Certificates: create the secret before istiod",
        kills=("TRUST-03",),
        also=("TRUST-02", "TRUST-04", "TRUST-09", "GATEWAYS-04", "GATEWAYS-05", "CONTROL-01", *ACROSS),
        inject=_cacerts_too_late,
    ),
    Fault(
        id="T4",
        sentence="an intermediate ends in ten days",
        seen="nothing, then everything at once",
        source="istio.io, Plug in CA Certificates; expiry is only a metric (citadel_server_root_cert_expiry_timestamp)",
        kills=("TRUST-01",),
        inject=_near_its_end,
    ),
    Fault(
        id="T4B",
        sentence="an intermediate is over, and istiod has not restarted since",
        seen="nothing, until istiod restarts and does not come back",
        source="security/pkg/pki/util/keycertbundle.go verifies at the start only",
        kills=("TRUST-01", "TRUST-02"),
        also=("TRUST-03", "TRUST-04", "TRUST-05", "TRUST-06", "TRUST-09", "GATEWAYS-04", "GATEWAYS-05", "CONTROL-01"),
        inject=_over,
    ),
    Fault(
        id="T5",
        sentence="the key in one cluster's cacerts belongs to another certificate",
        seen="nothing, until istiod restarts and does not come back",
        source="copying cacerts by hand; keycertbundle.go: 'the cert does not match the key'",
        kills=("TRUST-01",),
        also=("TRUST-06",),
        inject=_key_of_another,
    ),
    Fault(
        id="T6",
        sentence="one cluster has another trust domain, without aliases",
        seen="only local answers, or errors on the remote share",
        source="istio/istio issues on trustDomain in multi-primary meshes; istio.io, Trust Domain Migration",
        needs=(TWO_PRIMARIES,),
        kills=("TRUST-07", "TRUST-05"),
        also=("TRUST-04", "GATEWAYS-02", "CONTROL-05", *ACROSS),
        inject=_other_domain,
    ),
    Fault(
        id="T7",
        sentence="the root in one namespace's ConfigMap was overwritten",
        seen="new pods of that namespace trust nobody",
        source="GitOps tools that prune or copy istio-ca-root-cert",
        kills=("TRUST-02",),
        also=ACROSS,
        note="istiod puts its ConfigMap back at once",
        inject=_root_map_overwritten,
        shows=stays,
    ),
)
