"""The plan of a mesh: which steps, where, and in which order, from the topology alone. Nothing is contacted to make it.

Where a step must wait for another is a fact about Istio, said beside it; everything else runs in parallel.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from meshproof.install.executor import Step, in_order
from meshproof.install.gateways import gateways_of
from meshproof.install.removal import remove_control_plane, remove_namespaces
from meshproof.install.steps import Build
from meshproof.mesh.handles import Cluster, Mesh

ROOT = "certificates under one root"


def namespaces_step(cluster: Cluster) -> str:
    return f"namespaces in {cluster}"


def cacerts_step(cluster: Cluster) -> str:
    return f"cacerts in {cluster}"


def services_step(cluster: Cluster) -> str:
    return f"gateway services in {cluster}"


def addresses_step(cluster: Cluster) -> str:
    return f"gateway addresses in {cluster}"


def control_plane_step(cluster: Cluster) -> str:
    what = "istiod" if cluster.is_primary else f"pointer to {cluster.spec.control_plane}'s istiod"
    return f"{what} in {cluster}"


def credentials_step(cluster: Cluster) -> str:
    return f"credentials for {cluster}"


def before_step(cluster: Cluster) -> str:
    return f"injection before the remote secret in {cluster}"


def secret_step(cluster: Cluster, primary: Cluster) -> str:
    return f"remote secret for {cluster} in {primary}"


def configuration_step(primary: Cluster) -> str:
    return f"mesh configuration in {primary}"


def injection_step(cluster: Cluster) -> str:
    return f"injection in {cluster}"


def gateways_step(cluster: Cluster) -> str:
    return f"gateways in {cluster}"


def app_step(cluster: Cluster) -> str:
    return f"application in {cluster}"


def client_step(cluster: Cluster) -> str:
    return f"client in {cluster}"


def outside_step(cluster: Cluster) -> str:
    return f"client outside the mesh in {cluster}"


def plan_for(mesh: Mesh, build: Build | None = None) -> tuple[Step, ...]:
    """The steps that make the mesh, each after all that it needs. `build` collects what they find out."""
    made = build or Build(mesh)
    steps = [Step(name=ROOT, run=made.make_certificates)]
    for cluster in mesh.clusters:
        steps += _foundation(made, cluster)
        steps.append(_control_plane(made, cluster))
        steps += _discovery(made, cluster)
        if cluster.is_primary:
            steps.append(
                Step(
                    name=configuration_step(cluster),
                    cluster=cluster.name,
                    needs=(control_plane_step(cluster),),
                    run=partial(made.apply_mesh_configuration, cluster),
                )
            )
        steps += _workloads(made, cluster)
    return in_order(steps)


def describe(plan: Sequence[Step]) -> str:
    """The plan as text, one step a line, with what each waits for."""
    ordered = in_order(plan)
    width = max((len(step.name) for step in ordered), default=0)
    lines = []
    for number, step in enumerate(ordered, start=1):
        after = f"  after {', '.join(step.needs)}" if step.needs else ""
        lines.append(f"{number:3}  {step.name:{width}}{after}".rstrip())
    return "\n".join(lines)


def _foundation(made: Build, cluster: Cluster) -> list[Step]:
    """What needs no istiod. Gateway Services come first, since a load balancer takes its time."""
    first = (namespaces_step(cluster),)
    gateways = [
        Step(
            name=services_step(cluster),
            cluster=cluster.name,
            needs=first,
            run=partial(made.apply_gateway_services, cluster),
        ),
        Step(
            name=addresses_step(cluster),
            cluster=cluster.name,
            needs=(services_step(cluster),),
            run=partial(made.await_addresses, cluster),
        ),
    ]
    return [
        Step(
            name=namespaces_step(cluster),
            cluster=cluster.name,
            run=partial(made.apply_namespaces, cluster),
            undo=partial(remove_namespaces, cluster.kube, aborted=made.aborted),
        ),
        Step(
            name=cacerts_step(cluster),
            cluster=cluster.name,
            needs=(ROOT, *first),
            run=partial(made.apply_cacerts, cluster),
        ),
        *(gateways if gateways_of(made.mesh.topology, cluster.spec) else ()),
        Step(
            name=outside_step(cluster),
            cluster=cluster.name,
            needs=first,
            run=partial(made.start_outside_client, cluster),
        ),
    ]


def _control_plane(made: Build, cluster: Cluster) -> Step:
    """cacerts come before istiod, which reads them at its start; a remote must know where its istiod is reached."""
    away = () if cluster.is_primary else (addresses_step(made.mesh.control_plane_of(cluster)),)
    return Step(
        name=control_plane_step(cluster),
        cluster=cluster.name,
        needs=(cacerts_step(cluster), *away),
        run=partial(made.install_control_plane, cluster),
        undo=partial(remove_control_plane, cluster.kube),
    )


def _discovery(made: Build, cluster: Cluster) -> list[Step]:
    """Every primary reads every other cluster. What a remote is like before that is evidence: look first."""
    watchers = [primary for primary in made.mesh.primaries if primary is not cluster]
    if not watchers:
        return []
    credentials = Step(
        name=credentials_step(cluster),
        cluster=cluster.name,
        needs=(namespaces_step(cluster),),
        run=partial(made.make_credentials, cluster),
    )
    looks = []
    if not cluster.is_primary:
        looks = [
            Step(
                name=before_step(cluster),
                cluster=cluster.name,
                needs=(control_plane_step(cluster),),
                run=partial(made.look_before_secret, cluster),
            )
        ]
    secrets = [
        Step(
            name=secret_step(cluster, primary),
            cluster=primary.name,
            needs=(credentials.name, control_plane_step(primary), *(look.name for look in looks)),
            run=partial(made.apply_remote_secret, cluster, primary),
            undo=partial(made.remove_remote_secret, cluster, primary),
        )
        for primary in watchers
    ]
    return [credentials, *looks, *secrets]


def _workloads(made: Build, cluster: Cluster) -> list[Step]:
    """Pods with proxies. A remote's are injected by the primary's istiod, through the primary's east-west gateway."""
    needs = [control_plane_step(cluster)]
    if not cluster.is_primary:
        primary = made.mesh.control_plane_of(cluster)
        needs += [secret_step(cluster, primary), configuration_step(primary), gateways_step(primary)]
    gateways = Step(
        name=gateways_step(cluster),
        cluster=cluster.name,
        needs=(injection_step(cluster), services_step(cluster)),
        run=partial(made.start_gateways, cluster),
    )
    return [
        Step(
            name=injection_step(cluster),
            cluster=cluster.name,
            needs=tuple(needs),
            run=partial(made.await_injection, cluster),
        ),
        *((gateways,) if gateways_of(made.mesh.topology, cluster.spec) else ()),
        Step(
            name=app_step(cluster),
            cluster=cluster.name,
            needs=(injection_step(cluster),),
            run=partial(made.start_app, cluster),
        ),
        Step(
            name=client_step(cluster),
            cluster=cluster.name,
            needs=(injection_step(cluster),),
            run=partial(made.start_client, cluster),
        ),
    ]
