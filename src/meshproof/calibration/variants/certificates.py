"""Variants of certificates and trust domains."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from meshproof.calibration.variants.common import SYSTEM, set_mesh_config, set_mesh_configs, thing
from meshproof.calibration.variants.variant import Variant
from meshproof.claims.claim import TWO_PRIMARIES
from meshproof.core import names
from meshproof.core.errors import Broken
from meshproof.faults.catalogue.trust import OTHER_DOMAIN, renew, set_ca
from meshproof.faults.editor import JournalledEditor
from meshproof.faults.undo import ISTIOD
from meshproof.mesh.handles import Cluster
from meshproof.pki import issue as pki
from meshproof.pki.verify import CA_CERT, CA_KEY, ROOT_CERT

TLS_TYPE: Final = "kubernetes.io/tls"
TLS_FILES: Final = {"tls.crt": CA_CERT, "tls.key": CA_KEY, "ca.crt": ROOT_CERT}
"""The names that istiod reads in a Secret of that type (pilot/pkg/bootstrap/istio_ca.go), and ours for the same."""
BETWEEN: Final = 2
ECDSA: Final = {"defaultConfig": {"proxyMetadata": {"ECC_SIGNATURE_ALGORITHM": "ECDSA"}}}


def _as_tls_secret(editor: JournalledEditor) -> None:
    """The same CA, as cert-manager stores it. Its bytes do not change, so workloads keep their certificates."""
    for cluster in editor.mesh.clusters:
        secret = cluster.kube.find("Secret", names.CACERTS, SYSTEM)
        if secret is None:
            raise Broken(f"Secret {names.CACERTS} on {cluster}", "it does not exist", "install the mesh again")
        data = {name: secret["data"][ours] for name, ours in TLS_FILES.items()}
        editor.replace(cluster, thing("Secret", names.CACERTS, SYSTEM, type=TLS_TYPE, data=data))
    editor.restart(editor.mesh.primaries, ISTIOD)


def _long_chain(editor: JournalledEditor) -> None:
    issuer = pki.make_root()
    for left in range(BETWEEN, 0, -1):
        issuer = pki.make_intermediate(issuer, locality="", common_name=f"Issuing CA {left}", path_length=left)
    _set_cas(editor, {c: pki.make_intermediate(issuer, locality=c.name) for c in editor.mesh.clusters})


def _ec_keys(editor: JournalledEditor) -> None:
    root = pki.make_root(key=_ec_key())
    set_mesh_configs(editor, ECDSA)
    _set_cas(editor, {c: pki.make_intermediate(root, locality=c.name, key=_ec_key()) for c in editor.mesh.clusters})


def _ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _set_cas(editor: JournalledEditor, cas: dict[Cluster, pki.Authority]) -> None:
    for cluster, authority in cas.items():
        set_ca(editor, cluster, pki.bundle_of(authority))
    renew(editor, editor.mesh.primaries)


def _aliases(editor: JournalledEditor) -> None:
    """Each primary's istiod reads its trust domain at startup; aliases are pushed."""
    own = editor.topology.trust_domain
    for primary in editor.mesh.primaries[:-1]:
        set_mesh_config(editor, primary, {"trustDomainAliases": [OTHER_DOMAIN]})
    last = editor.mesh.primaries[-1]
    set_mesh_config(editor, last, {"trustDomain": OTHER_DOMAIN, "trustDomainAliases": [own]})
    renew(editor, (last,))


CERTIFICATES: Final = (
    Variant(
        id="tls-cacerts",
        sentence="the secret cacerts is of type kubernetes.io/tls, with tls.crt, tls.key and ca.crt",
        legal="istio.io, Plug in CA Certificates: istiod reads files of that type too (1.22, detectSigningCABundle)",
        apply=_as_tls_secret,
        still_kills=("T4",),
    ),
    Variant(
        id="long-chain",
        sentence="two CAs stand between the root and each cluster's signing CA",
        legal="istio.io, Plug in CA Certificates: cert-chain.pem is a chain; RFC 5280: path length",
        apply=_long_chain,
    ),
    Variant(
        id="ec-keys",
        sentence="all keys are on an elliptic curve: those of the CAs and of the workloads",
        legal="istio.io, Plug in CA Certificates; pilot-agent: ECC_SIGNATURE_ALGORITHM",
        apply=_ec_keys,
        still_kills=("T5",),
    ),
    Variant(
        id="trust-aliases",
        sentence="the last primary has another trust domain, and each is the other's alias",
        legal="istio.io, Trust domain migration: trustDomainAliases",
        needs=(TWO_PRIMARIES,),
        apply=_aliases,
        still_kills=("T1",),
    ),
)
