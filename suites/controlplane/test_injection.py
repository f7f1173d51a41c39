"""What new pods get from the control plane that governs their cluster."""

from __future__ import annotations

import base64

from meshproof.claims.claim import REMOTES, Isolation, claim
from meshproof.claims.findings import Findings
from meshproof.core.concurrency import together
from meshproof.core.errors import Unavailable
from meshproof.mesh.handles import Cluster
from meshproof.pki.verify import fingerprint, parse_chain
from meshproof.probes.admission import DryRun
from meshproof.run.claim_context import ClaimContext


@claim(
    "CONTROL-01",
    "a remote cluster injects sidecars only once its primary has the remote secret",
    promised_by="istio.io, Install Primary-Remote: attach cluster2 as a remote cluster",
    hint="does istiod see the remote (DISCOVERY-01)? it needs the right to patch mutatingwebhookconfigurations there",
    needs=REMOTES,
    settings="as TRUST-01: whose root the caBundle must have",
)
def test_the_remote_secret_turns_injection_on(context: ClaimContext) -> None:
    """The primary patches its root into the remote's webhook as soon as it can: until then the caBundle is empty,
    and the webhook refuses every pod."""
    snapshot = context.snapshot
    findings = Findings("remotes")
    for seen in context.installed.remotes:
        roots = {fingerprint(root) for root in snapshot.issuer_of(snapshot.mesh.cluster(seen.cluster)).roots}
        trusted = {fingerprint(c) for b in seen.after.ca_bundles for c in parse_chain(base64.b64decode(b))}
        problems = (
            [] if trusted == roots else [f"afterwards the webhook's caBundle has {trusted or 'no root'}, not {roots}"]
        )
        if seen.after.pod is not DryRun.ACCEPTED:
            problems.append(f"afterwards a new pod is {seen.after.pod} ({seen.after.words[:200]})")
        if not seen.secret_was_there and seen.before.ca_bundles:
            problems.append("before the secret the webhook already had a caBundle")
        if not seen.secret_was_there and seen.before.pod is DryRun.ACCEPTED:
            problems.append("before the secret a pod was injected")
        findings.examine(seen.cluster, problems)
    findings.conclude()
    if kept := [seen.cluster for seen in context.installed.remotes if seen.secret_was_there]:
        raise Unavailable(
            f"the state of {', '.join(kept)} before the remote secret",
            "the mesh existed already, so only the state afterwards was proven",
            "run once without a kept mesh",
        )


@claim(
    "CONTROL-02",
    "a pod in a new namespace of any cluster becomes ready with a sidecar of the right identity",
    promised_by="istio.io, Sidecar injection; Install Multicluster: meshID, clusterName and network",
    hint="refused: is istiod up, and 15017 reachable from the remote? wrong identity: the remote's injectionPath",
    isolation=Isolation.PUSHES_CONFIG,
    settings="revisions, tags: those of the control plane's istiods",
)
def test_fresh_pods_get_the_right_identity(context: ClaimContext) -> None:
    """A pod with another cluster's or network's name gets that one's endpoints, or is rejected by istiod forever."""
    mesh, snapshot, fresh_pods = context.mesh, context.snapshot, context.fresh_pods
    revisions = {c.name: {pod.revision for pod in snapshot.of(mesh.control_plane_of(c)).istiods} for c in mesh.clusters}
    findings = Findings("fresh pods")

    def problems(cluster: Cluster) -> list[str]:
        pod = fresh_pods.of(cluster)
        if pod.proxy_env is None:
            return ["it runs without a sidecar"]
        expected = {
            "ISTIO_META_CLUSTER_ID": cluster.name,
            "ISTIO_META_NETWORK": cluster.network,
            "ISTIO_META_MESH_ID": mesh.topology.mesh_id,
        }
        seen = {key: pod.proxy_env.get(key, "nothing") for key in expected}
        wrong = [f"{key} is {seen[key]}, expected {value}" for key, value in expected.items() if seen[key] != value]
        known = ", ".join(sorted(map(str, revisions[cluster.name]))) or "that of an istiod, but none runs"
        return wrong + (
            [] if pod.revision in revisions[cluster.name] else [f"its revision is {pod.revision}, expected {known}"]
        )

    for cluster, wrong in zip(mesh.clusters, together(problems, mesh.clusters), strict=True):
        findings.examine(str(cluster), wrong)
    findings.conclude()
