"""Versions of control planes, proxies, CRDs and istioctl."""

from __future__ import annotations

from dataclasses import asdict

from meshproof.claims.claim import claim
from meshproof.claims.findings import Findings
from meshproof.clients.istio.istioctl import Istioctl
from meshproof.controlplane.versions import crd_problems, gather, union
from meshproof.run.claim_context import ClaimContext


@claim(
    "CONTROL-06",
    "istiods, proxies, CRDs and istioctl are within the supported version skew, in and between clusters",
    promised_by="istio.io, Supported Releases: Control Plane/Data Plane Skew",
    hint="upgrade control planes first, one minor version at a time, then restart the pods whose proxies are behind; "
    "CRDs are upgraded by the base chart (helm does not do it by itself)",
    settings="numbers of Helm charts that are not Istio's: a note",
)
def test_versions_are_compatible(context: ClaimContext) -> None:
    """A proxy ahead of its istiod, or CRDs behind it, work until a feature is used that the older one does not know.

    The number of a Helm chart is that of whoever packaged it: where istiod's own chart has another than istiod, CRDs
    are compared by what they serve only.
    """
    mesh = context.mesh
    tool = Istioctl(
        mesh.toolbox.require_istioctl(), mesh.primaries[0].access.kubeconfig, mesh.primaries[0].access.context
    )
    versions, crds = gather(context.snapshot, tool.version())
    findings = Findings("components")
    for name, problems in versions.problems().items():
        findings.examine(name, problems)
    wanted = union(crds.values())
    for primary in mesh.primaries:  # a remote's CRDs are not used
        findings.examine(f"{primary} CRDs", crd_problems(crds[primary.name], wanted))
    for name, number in versions.charts.items():
        text = f"{name} has version {number} of its chart, which is not Istio's release (istiod's chart has another)"
        findings.advise(f"{text}: only what the CRDs serve was compared")
    context.evidence.attach("versions", asdict(versions))
    findings.conclude()
