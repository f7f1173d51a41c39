"""Faults of certificates and identity."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from meshproof.claims.claim import TWO_PRIMARIES
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.core.names import ROOT_MAP
from meshproof.faults.catalogue.common import ACROSS, edit_mesh_config
from meshproof.faults.editor import JournalledEditor
from meshproof.faults.fault import Fault, stays
from meshproof.faults.undo import ISTIOD, WORKLOADS
from meshproof.mesh.ca_files import SELF_SIGNED
from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import ROOT_KEY
from meshproof.pki import issue as pki
from meshproof.pki.verify import ca_file_names

OTHER_DOMAIN: Final = "other.local"
SOON: Final = timedelta(days=10)


def set_ca(editor: JournalledEditor, cluster: Cluster, bundle: pki.CaBundle) -> None:
    """Set another plug-in CA, in the form of that which is there; istiod reads it at startup."""

    def change(secret: Json) -> Json:
        return secret | {"data": bundle.secret_data(ca_file_names(secret["data"]))}

    editor.edit(cluster, "Secret", names.CACERTS, names.SYSTEM_NAMESPACE, change)


def renew(editor: JournalledEditor, primaries: tuple[Cluster, ...]) -> None:
    """Restart istiods first, then all workloads that they sign for."""
    editor.restart(primaries, ISTIOD)
    editor.restart((cluster for primary in primaries for cluster in editor.mesh.controlled_by(primary)), WORKLOADS)


def _another_root(editor: JournalledEditor) -> None:
    set_ca(editor, editor.far, pki.plugin_ca(pki.make_root(), editor.far.name))
    renew(editor, (editor.far,))


def _cacerts_too_late(editor: JournalledEditor) -> None:
    original = editor.remove(editor.near, "Secret", names.CACERTS, names.SYSTEM_NAMESPACE)
    renew(editor, (editor.near,))
    again = cacerts_secret_of(original)
    editor.add(editor.near, again)
    editor.delete_when_healed(editor.near, "Secret", SELF_SIGNED, names.SYSTEM_NAMESPACE)


def cacerts_secret_of(original: Json) -> Json:
    """A new secret with the same data."""
    meta = {"name": names.CACERTS, "namespace": names.SYSTEM_NAMESPACE}
    kind = original.get("type", "Opaque")
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": kind, "data": original["data"]}


def near_ends_in(editor: JournalledEditor, left: timedelta) -> None:
    """New CAs in all clusters; that of the near cluster expires after `left`."""
    root = pki.make_root()
    for cluster in editor.mesh.clusters:
        life = left if cluster is editor.near else pki.INTERMEDIATE_LIFE
        set_ca(editor, cluster, pki.plugin_ca(root, cluster.name, life=life))
    renew(editor, editor.mesh.primaries)


def _near_its_end(editor: JournalledEditor) -> None:
    near_ends_in(editor, SOON)


def _over(editor: JournalledEditor) -> None:
    now = datetime.now(UTC)
    root = pki.make_root(now=now - timedelta(days=800))
    past = pki.make_intermediate(root, locality=editor.near.name, now=now - timedelta(days=740))
    set_ca(editor, editor.near, pki.bundle_of(past))


def _key_of_another(editor: JournalledEditor) -> None:
    break_key(editor, editor.far)


def break_key(editor: JournalledEditor, cluster: Cluster) -> None:
    """Put a key of another certificate into the plug-in CA of a cluster."""
    other = pki.plugin_ca(pki.make_root(), "other")

    def change(secret: Json) -> None:
        named = ca_file_names(secret["data"])
        secret["data"][named.key] = other.secret_data(named)[named.key]

    editor.edit(cluster, "Secret", names.CACERTS, names.SYSTEM_NAMESPACE, change)


def _other_domain(editor: JournalledEditor) -> None:
    edit_mesh_config(editor, editor.far, {"trustDomain": OTHER_DOMAIN})
    renew(editor, (editor.far,))


def _root_map_overwritten(editor: JournalledEditor) -> None:
    other = pki.pem_of(pki.make_root().cert).decode()
    editor.edit(editor.far, "ConfigMap", ROOT_MAP, names.CLIENT_NAMESPACE, lambda m: m | {"data": {ROOT_KEY: other}})


TRUST: Final = (
    Fault(
        id="T1",
        sentence="the cacerts of one cluster have another root certificate",
        seen="requests to remote endpoints fail with TLS errors",
        source="istio.io, Plug in CA Certificates; istio/istio issues on 'certificate signed by unknown authority'",
        needs=(TWO_PRIMARIES,),
        kills=("TRUST-02", "TRUST-05"),
        also=(*ACROSS, "DISCOVERY-04"),
        inject=_another_root,
    ),
    Fault(
        id="T2",
        sentence="cacerts were created after istiod had started, so it signs with its self-signed CA",
        seen="nothing within a cluster; TLS errors between primaries",
        source="istio.io, Plug in CA Certificates: create the secret before istiod",
        kills=("TRUST-03",),
        also=("TRUST-02", "TRUST-04", "TRUST-09", "GATEWAYS-04", "GATEWAYS-05", "CONTROL-01", *ACROSS),
        inject=_cacerts_too_late,
    ),
    Fault(
        id="T4",
        sentence="an intermediate certificate expires in ten days",
        seen="nothing until it expires; then all certificates become invalid",
        source="istio.io, Plug in CA Certificates; expiry is only a metric (citadel_server_root_cert_expiry_timestamp)",
        kills=("TRUST-01",),
        inject=_near_its_end,
    ),
    Fault(
        id="T4B",
        sentence="an intermediate certificate has expired, and istiod has not restarted since",
        seen="nothing until istiod restarts; then it does not start",
        source="security/pkg/pki/util/keycertbundle.go verifies only at startup",
        kills=("TRUST-01", "TRUST-02"),
        also=("TRUST-03", "TRUST-04", "TRUST-05", "TRUST-06", "TRUST-09", "GATEWAYS-04", "GATEWAYS-05", "CONTROL-01"),
        inject=_over,
    ),
    Fault(
        id="T5",
        sentence="the key in one cluster's cacerts belongs to another certificate",
        seen="nothing until istiod restarts; then it does not start",
        source="copying cacerts by hand; keycertbundle.go: 'the cert does not match the key'",
        kills=("TRUST-01",),
        also=("TRUST-06",),
        inject=_key_of_another,
    ),
    Fault(
        id="T6",
        sentence="one cluster has another trust domain, without trust domain aliases",
        seen="only local endpoints respond, or requests to remote endpoints fail",
        source="istio/istio issues on trustDomain in multi-primary meshes; istio.io, Trust Domain Migration",
        needs=(TWO_PRIMARIES,),
        kills=("TRUST-07", "TRUST-05"),
        also=("TRUST-04", "GATEWAYS-02", "CONTROL-05", *ACROSS),
        inject=_other_domain,
    ),
    Fault(
        id="T7",
        sentence="the root certificate in one namespace's ConfigMap was overwritten",
        seen="new pods in that namespace trust no certificate of the mesh",
        source="GitOps tools that prune or copy istio-ca-root-cert",
        kills=("TRUST-02",),
        also=ACROSS,
        note="istiod restores its ConfigMap at once",
        inject=_root_map_overwritten,
        has_taken_effect=stays,
    ),
)
