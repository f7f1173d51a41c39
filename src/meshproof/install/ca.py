"""The plug-in CAs of a mesh: those already in its clusters if they are consistent, else new ones."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from meshproof.clients.kubernetes.client import Json
from meshproof.core.errors import Broken
from meshproof.core.model import ClusterName
from meshproof.core.names import CACERTS, SYSTEM_NAMESPACE
from meshproof.mesh.handles import Mesh
from meshproof.pki import issue as pki
from meshproof.pki import verify as certificates


def ca_bundles(mesh: Mesh) -> dict[ClusterName, pki.CaBundle]:
    """One bundle for each cluster, all under one root.

    Existing CAs are kept: istiod does not change its root by itself. Raises `Broken` if they are inconsistent
    while an istiod uses them.
    """
    found = {cluster.name: cluster.kube.find("Secret", CACERTS, SYSTEM_NAMESPACE) for cluster in mesh.clusters}
    present = {name: bundle_of_secret(secret) for name, secret in found.items() if secret is not None}
    problems = [f"{name} has no secret {CACERTS}" for name in found if name not in present]
    problems += consistency_problems(present)
    if not problems:
        return present
    running = [c.name for c in mesh.primaries if c.kube.find("Deployment", c.spec.istiod, SYSTEM_NAMESPACE)]
    if running:
        raise Broken(
            f"secrets {CACERTS}",
            f"{'; '.join(problems)}, and istiod is already installed in {', '.join(running)}",
            "remove the mesh, then install it again: a root cannot be replaced under a running mesh",
        )
    root = pki.make_root()
    return {cluster.name: pki.plugin_ca(root, cluster.name) for cluster in mesh.clusters}


def bundle_of_secret(secret: Json) -> pki.CaBundle:
    """The bundle in a secret `cacerts`; files that are missing are empty."""
    data: Mapping[str, str] = secret.get("data") or {}

    def decoded(name: str) -> bytes:
        return base64.b64decode(data.get(name, ""))

    return pki.CaBundle(
        ca_cert=decoded(certificates.CA_CERT),
        ca_key=decoded(certificates.CA_KEY),
        cert_chain=decoded(certificates.CERT_CHAIN),
        root_cert=decoded(certificates.ROOT_CERT),
    )


def consistency_problems(bundles: Mapping[ClusterName, pki.CaBundle]) -> list[str]:
    """Why these bundles cannot be one mesh's CAs: one that does not verify, or different roots."""
    now = datetime.now(UTC)
    problems = []
    roots: dict[str, list[ClusterName]] = {}
    for name, bundle in bundles.items():
        wrong = certificates.check_ca_bundle(bundle.files(), now, timedelta(0))
        problems += [f"{name}: {text}" for text in wrong]
        if not wrong:
            prints = sorted(certificates.fingerprint(cert) for cert in certificates.parse_chain(bundle.root_cert))
            roots.setdefault(", ".join(prints), []).append(name)
    if len(roots) > 1:
        which = "; ".join(f"{', '.join(names)} {prints}" for prints, names in roots.items())
        problems.append(f"different roots: {which}")
    return problems


def cacerts_secret(bundle: pki.CaBundle) -> Json:
    """The secret from which istiod reads its CA (istio.io, "Plug in CA Certificates")."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": CACERTS, "namespace": SYSTEM_NAMESPACE},
        "type": "Opaque",
        "data": bundle.secret_data(),
    }
