"""Where configuration is read, which proxies it reaches, and whether primaries have the same."""

from __future__ import annotations

from meshproof.claims.claim import REMOTES, TWO_PRIMARIES, Isolation, claim
from meshproof.claims.findings import Findings
from meshproof.clients.istio.configuration import config_objects, probe_route
from meshproof.controlplane.config_admission import admission_problems, not_validated
from meshproof.controlplane.config_consistency import COMPARED, compare_primaries, ignored_in_remote, service_hosts
from meshproof.controlplane.config_propagation import hosts_arrive
from meshproof.core.concurrency import together
from meshproof.mesh.configuration import applied
from meshproof.probes.admission import ConfigAdmission
from meshproof.run.claim_context import ClaimContext


@claim(
    "CONTROL-03",
    "configuration and its deletion reach exactly the proxies that its control plane governs, within a bound",
    promised_by="istio.io, Deployment models: Control plane models; Envoy, xDS protocol",
    hint="istioctl proxy-status; istiod's log (rights on networking.istio.io?); a Sidecar object may hide other "
    "namespaces' routes from the client",
    isolation=Isolation.PUSHES_CONFIG,
)
def test_configuration_reaches_the_governed_proxies(context: ClaimContext) -> None:
    """A control plane that has lost its watch keeps serving the last state: traffic is fine until the next change."""
    mesh, snapshot = context.mesh, context.snapshot
    routes = {primary.name: probe_route("governs") for primary in mesh.primaries}
    governed = {str(c): {routes[mesh.control_plane_of(c).name][0]} for c in mesh.clusters}
    with applied((mesh.cluster(name), manifest) for name, (_, manifest) in routes.items()):
        arrived = hosts_arrive(snapshot, governed, of={host for host, _ in routes.values()})
    left = hosts_arrive(snapshot, {str(c): set() for c in mesh.clusters}, of={host for host, _ in routes.values()})
    context.evidence.attach("seconds", {"until it was in the proxies": arrived, "until it had left them": left})


@claim(
    "CONTROL-04",
    "a remote cluster holds no Istio configuration, which would have no effect on any proxy",
    promised_by="istio.io, Install Primary-Remote: the remote is configured through its primary (config cluster)",
    hint="apply these objects in the primary, and delete them in the remote",
    needs=REMOTES,
    isolation=Isolation.PUSHES_CONFIG,
    settings="copies of what the primary has: a note",
)
def test_configuration_in_a_remote_is_ignored(context: ClaimContext) -> None:
    """It looks applied and has no effect, without an error. Positive control: the same route in the primary takes
    effect. Copies of what the primary has do no harm, and are a note."""
    mesh = context.mesh
    ignored = [(remote, probe_route("remote")) for remote in mesh.remotes]
    obeyed = {remote.spec.control_plane: probe_route("primary") for remote in mesh.remotes}
    expected = {str(c): {obeyed[c.spec.control_plane][0]} for c in mesh.clusters if c.spec.control_plane in obeyed}
    ours = {host for _, (host, _) in ignored} | {host for host, _ in obeyed.values()}
    # The remote's come first: when the primary's have arrived, those had their chance.
    with (
        applied((remote, manifest) for remote, (_, manifest) in ignored),
        applied((mesh.cluster(name), manifest) for name, (_, manifest) in obeyed.items()),
    ):
        hosts_arrive(context.snapshot, expected, of=ours)
    findings = Findings("remotes")
    for remote, there in zip(mesh.remotes, together(lambda c: config_objects(c.kube), mesh.remotes), strict=True):
        primary = mesh.control_plane_of(remote)
        lost, copies = ignored_in_remote(there, config_objects(primary.kube) if there else ())
        findings.examine(str(remote), [f"{what} is ignored: only {primary} is read" for what in lost])
        if copies:
            findings.advise(f"{remote} has copies of what {primary} has, which nobody reads: {', '.join(copies)}")
    findings.conclude()


@claim(
    "CONTROL-05",
    "all primaries hold the same routing and security configuration for hosts that clusters share",
    promised_by="istio.io, Install Multi-Primary: each control plane reads its own cluster's configuration only",
    hint="apply the object in every primary; configuration for one cluster only needs a host that only this cluster "
    "has",
    needs=TWO_PRIMARIES,
    settings="objects in a namespace of one control plane's clusters only: not compared, unless for a shared Service",
)
def test_primaries_are_configured_alike(context: ClaimContext) -> None:
    """A rule in one primary applies only to clients of that cluster, so that answers depend on where a request is
    sent. Objects in a namespace that only one control plane's clusters have are somebody's own, unless they are for
    Services that others have."""
    snapshot = context.snapshot
    found = together(lambda cluster: config_objects(cluster.kube, COMPARED), context.mesh.primaries)
    services = {
        str(facts.cluster): service_hosts((s.namespace, s.name) for s in facts.services) for facts in snapshot.facts
    }
    mesh = context.mesh
    listed = together(lambda cluster: cluster.kube.list("Namespace"), mesh.clusters)
    having = {c.name: {n["metadata"]["name"] for n in each} for c, each in zip(mesh.clusters, listed, strict=True)}
    namespaces = {
        str(primary): frozenset[str]().union(*(having[c.name] for c in mesh.controlled_by(primary)))
        for primary in mesh.primaries
    }
    objects = {str(c): items for c, items in zip(mesh.primaries, found, strict=True)}
    seen = compare_primaries(objects, services, namespaces)
    context.evidence.attach("objects", {"compared": seen.compared, "of one cluster only": seen.own})
    findings = Findings("configuration objects")
    findings.examine("all others")  # a mesh without any is configured alike
    for place in seen.compared:
        findings.examine(place, seen.problems.get(place, ()))
    findings.conclude()


@claim(
    "CONTROL-07",
    "every config cluster rejects invalid Istio configuration and accepts valid configuration",
    promised_by="istio.io, Configuration Validation Webhook",
    hint="istiod down? otherwise delete the validating webhook of a removed revision, or point the default tag at a "
    "live one (istioctl tag set default)",
    settings="global.configValidation=false: skipped",
)
def test_invalid_configuration_is_refused(context: ClaimContext) -> None:
    """A webhook that fails open admits invalid objects; one without a live service admits nothing, not even the
    repair. So every validation webhook of Istio must point at a live service. Skipped where the operator has turned
    validation off."""
    evidence = context.evidence
    findings = Findings("config clusters")
    unvalidated = {c: why for c in context.mesh.primaries if (why := not_validated(c))}
    findings.skip({f"{cluster}": why for cluster, why in unvalidated.items()}, "set it to true, as it is by default")
    asked = [cluster for cluster in context.mesh.primaries if cluster not in unvalidated]
    for cluster, seen in zip(asked, together(ConfigAdmission.ask, asked), strict=True):
        findings.examine(str(cluster), admission_problems(seen))
        evidence.attach(str(cluster), {"valid": str(seen.good), "invalid": str(seen.bad), "webhooks": seen.targets})
    findings.conclude()
