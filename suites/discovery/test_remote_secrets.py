"""Remote secrets: credentials by which control planes read the other clusters."""

from __future__ import annotations

from meshproof.claims.claim import claim
from meshproof.claims.findings import Findings
from meshproof.core.concurrency import together
from meshproof.discovery.remote_secrets import remote_secrets, secret_problems
from meshproof.mesh.handles import Cluster
from meshproof.mesh.objects import cluster_uid
from meshproof.run.claim_context import ClaimContext


@claim(
    "DISCOVERY-04",
    "each control plane has exactly one working remote secret for every other cluster",
    promised_by="istio.io, Install Multicluster, Enable Endpoint Discovery; chart istio-discovery, reader-clusterrole",
    hint="recreate it: istioctl create-remote-secret --name=CLUSTER --server=URL, one that istiod can dial; rights: "
    "compare ClusterRole istio-reader-clusterrole-istio-system with the chart's",
    settings="secrets for the own cluster: a note; client certificates: as good as tokens",
)
def test_remote_secrets_work(context: ClaimContext) -> None:
    """An expired token freezes endpoints while istiod still reports synced. Each secret is used as istiod uses it.

    Working: in the right namespace and under the right name, leading to that cluster from istiod's own network, valid
    for a while, and with all rights that istiod needs.
    """
    mesh = context.mesh
    uids = dict(
        zip([str(c) for c in mesh.clusters], together(lambda c: cluster_uid(c.kube), mesh.clusters), strict=True)
    )
    found = dict(zip(mesh.primaries, together(lambda c: remote_secrets(c.kube), mesh.primaries), strict=True))
    wanted = [(primary, other) for primary in mesh.primaries for other in mesh.clusters if other is not primary]

    def problems_of(item: tuple[Cluster, Cluster]) -> list[str]:
        primary, other = item
        return secret_problems(context.snapshot, primary, other, found[primary], uids, context.now)

    findings = Findings("remote secrets")
    for (primary, other), problems in zip(wanted, together(problems_of, wanted), strict=True):
        findings.examine(f"{other} in {primary}", problems)
    for primary, secrets in found.items():
        for each in (secret for secret in secrets if secret.cluster == primary.name):
            findings.advise(f"{each} in {primary} is for its own cluster, and ignored by istiod")
        for each in (secret for secret in secrets if secret.cluster not in uids):
            findings.examine(f"{each} in {primary}", [f"{each.cluster} is not another cluster of the mesh"])
        context.evidence.attach(
            str(primary),
            [{"secret": str(s), "cluster": s.cluster, "server": s.server, "ends": str(s.ends)} for s in secrets],
        )
    findings.conclude()
