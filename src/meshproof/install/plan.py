"""The install plan of a mesh: steps, clusters and order, from the topology only, without contacting a cluster.

Dependencies between steps have their reason in Istio, stated next to them; everything else runs in parallel.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import partial

from meshproof.install.executor import InstallStep, in_order
from meshproof.install.gateways import gateways_of
from meshproof.install.removal import remove_control_plane, remove_namespaces
from meshproof.install.steps import Build
from meshproof.mesh.handles import Cluster, Mesh

ROOT = "certificates under one root"


class StepName(StrEnum):
    """A step's action; with one or two clusters it forms the step's name."""

    NAMESPACES = "namespaces in {}"
    CACERTS = "cacerts in {}"
    SERVICES = "gateway services in {}"
    ADDRESSES = "gateway addresses in {}"
    ISTIOD = "istiod in {}"
    POINTER = "pointer to {1}'s istiod in {0}"
    CREDENTIALS = "credentials for {}"
    BEFORE = "injection before the remote secret in {}"
    SECRET = "remote secret for {} in {}"
    CONFIGURATION = "mesh configuration in {}"
    INJECTION = "injection in {}"
    GATEWAYS = "gateways in {}"
    APP = "application in {}"
    CLIENT = "client in {}"
    OUTSIDE = "client outside the mesh in {}"

    def of(self, *clusters: Cluster) -> str:
        return self.format(*clusters)


def control_plane_step(made: Build, cluster: Cluster) -> str:
    """The step that gives a cluster its istiod, or the configuration to use another cluster's."""
    step = StepName.ISTIOD if cluster.is_primary else StepName.POINTER
    return step.of(cluster, made.mesh.control_plane_of(cluster))


def plan_for(mesh: Mesh, build: Build | None = None) -> tuple[InstallStep, ...]:
    """The steps that install the mesh, each after all that it needs. `build` collects their results."""
    made = build or Build(mesh)
    steps = [InstallStep(name=ROOT, run=made.make_certificates)]
    for cluster in mesh.clusters:
        steps += _foundation(made, cluster)
        steps.append(_control_plane(made, cluster))
        steps += _discovery(made, cluster)
        if cluster.is_primary:
            steps.append(
                InstallStep(
                    name=StepName.CONFIGURATION.of(cluster),
                    cluster=cluster.name,
                    needs=(control_plane_step(made, cluster),),
                    run=partial(made.apply_mesh_configuration, cluster),
                )
            )
        steps += _workloads(made, cluster)
    return in_order(steps)


def describe_plan(plan: Sequence[InstallStep]) -> str:
    """The plan as text, one step per line, with its dependencies."""
    ordered = in_order(plan)
    width = max((len(step.name) for step in ordered), default=0)
    lines = []
    for number, step in enumerate(ordered, start=1):
        after = f"  after {', '.join(step.needs)}" if step.needs else ""
        lines.append(f"{number:3}  {step.name:{width}}{after}".rstrip())
    return "\n".join(lines)


def _foundation(made: Build, cluster: Cluster) -> list[InstallStep]:
    """Steps that need no istiod. Gateway Services come first, since load balancers are slow."""
    first = (StepName.NAMESPACES.of(cluster),)
    gateways = [
        InstallStep(
            name=StepName.SERVICES.of(cluster),
            cluster=cluster.name,
            needs=first,
            run=partial(made.apply_gateway_services, cluster),
        ),
        InstallStep(
            name=StepName.ADDRESSES.of(cluster),
            cluster=cluster.name,
            needs=(StepName.SERVICES.of(cluster),),
            run=partial(made.await_addresses, cluster),
        ),
    ]
    return [
        InstallStep(
            name=StepName.NAMESPACES.of(cluster),
            cluster=cluster.name,
            run=partial(made.apply_namespaces, cluster),
            undo=partial(remove_namespaces, cluster.kube, aborted=made.aborted),
        ),
        InstallStep(
            name=StepName.CACERTS.of(cluster),
            cluster=cluster.name,
            needs=(ROOT, *first),
            run=partial(made.apply_cacerts, cluster),
        ),
        *(gateways if gateways_of(made.mesh.topology, cluster.spec) else ()),
        InstallStep(
            name=StepName.OUTSIDE.of(cluster),
            cluster=cluster.name,
            needs=first,
            run=partial(made.start_outside_client, cluster),
        ),
    ]


def _control_plane(made: Build, cluster: Cluster) -> InstallStep:
    """cacerts come before istiod, which reads them at its start; a remote needs the address of its istiod."""
    away = () if cluster.is_primary else (StepName.ADDRESSES.of(made.mesh.control_plane_of(cluster)),)
    return InstallStep(
        name=control_plane_step(made, cluster),
        cluster=cluster.name,
        needs=(StepName.CACERTS.of(cluster), *away),
        run=partial(made.install_control_plane, cluster),
        undo=partial(remove_control_plane, cluster.kube),
    )


def _discovery(made: Build, cluster: Cluster) -> list[InstallStep]:
    """Every primary reads every other cluster. A remote's state before that is evidence, so it is recorded first."""
    watchers = [primary for primary in made.mesh.primaries if primary is not cluster]
    if not watchers:
        return []
    credentials = InstallStep(
        name=StepName.CREDENTIALS.of(cluster),
        cluster=cluster.name,
        needs=(StepName.NAMESPACES.of(cluster),),
        run=partial(made.make_credentials, cluster),
    )
    looks = []
    if not cluster.is_primary:
        looks = [
            InstallStep(
                name=StepName.BEFORE.of(cluster),
                cluster=cluster.name,
                needs=(control_plane_step(made, cluster),),
                run=partial(made.look_before_secret, cluster),
            )
        ]
    secrets = [
        InstallStep(
            name=StepName.SECRET.of(cluster, primary),
            cluster=primary.name,
            needs=(credentials.name, control_plane_step(made, primary), *(look.name for look in looks)),
            run=partial(made.apply_remote_secret, cluster, primary),
            undo=partial(made.remove_remote_secret, cluster, primary),
        )
        for primary in watchers
    ]
    return [credentials, *looks, *secrets]


def _workloads(made: Build, cluster: Cluster) -> list[InstallStep]:
    """Pods with proxies. A remote's are injected by the primary's istiod, through the primary's east-west gateway."""
    needs = [control_plane_step(made, cluster)]
    if not cluster.is_primary:
        primary = made.mesh.control_plane_of(cluster)
        needs += [
            StepName.SECRET.of(cluster, primary),
            StepName.CONFIGURATION.of(primary),
            StepName.GATEWAYS.of(primary),
        ]
    gateways = InstallStep(
        name=StepName.GATEWAYS.of(cluster),
        cluster=cluster.name,
        needs=(StepName.INJECTION.of(cluster), StepName.SERVICES.of(cluster)),
        run=partial(made.start_gateways, cluster),
    )
    return [
        InstallStep(
            name=StepName.INJECTION.of(cluster),
            cluster=cluster.name,
            needs=tuple(needs),
            run=partial(made.await_injection, cluster),
        ),
        *((gateways,) if gateways_of(made.mesh.topology, cluster.spec) else ()),
        InstallStep(
            name=StepName.APP.of(cluster),
            cluster=cluster.name,
            needs=(StepName.INJECTION.of(cluster),),
            run=partial(made.start_app, cluster),
        ),
        InstallStep(
            name=StepName.CLIENT.of(cluster),
            cluster=cluster.name,
            needs=(StepName.INJECTION.of(cluster),),
            run=partial(made.start_client, cluster),
        ),
    ]
