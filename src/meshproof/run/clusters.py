"""The clusters of a run, opened once for all topologies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from meshproof.clients.kubernetes.rbac import (
    FOR_CREDENTIALS,
    FOR_DISRUPTION,
    FOR_INSTALLING,
    FOR_PULL_SECRET,
    NEEDED,
    AccessRule,
)
from meshproof.core.errors import BadInput
from meshproof.core.progress import Narrator
from meshproof.install.lifecycle import uninstall_mesh
from meshproof.mesh.handles import Mesh
from meshproof.providers.base import Provider
from meshproof.providers.kubeconfig import open_kubeconfig
from meshproof.providers.lab.build.istio_releases import Release, before, find_release
from meshproof.run.cluster_tools import are_kept, open_maker
from meshproof.run.settings import Settings


@dataclass(slots=True, kw_only=True)
class Clusters:
    """The clusters, whether they outlive the run, and the mesh that is on them."""

    provider: Provider
    ephemeral: bool
    mesh: Mesh | None = None


def open_provider(settings: Settings, narrator: Narrator) -> AbstractContextManager[Provider]:
    """The chosen provider as a context manager."""
    if settings.attachment is not None:
        return open_kubeconfig(
            settings.attachment,
            settings.topologies[0],
            narrator,
            rules=rules_for(settings),
            installs=settings.installs,
        )
    if settings.making is not None:
        return open_maker(settings, settings.making, narrator)
    from meshproof.providers.lab.api import open_lab  # needs pyroute2, which is absent from the in-cluster image

    return open_lab(
        settings.lab_name,
        settings.topologies[0],
        keep=settings.keep,
        report_dir=settings.report_dir,
        narrator=narrator,
        releases=lab_releases(settings),
    )


def lab_releases(settings: Settings) -> tuple[Release, ...]:
    """The releases of Istio that a lab must have for this run, first the one to be installed; empty if any will do."""
    target = find_release(settings.upgrade_to) if settings.upgrade_to else None
    start = find_release(settings.istio_version) if settings.istio_version else target and before(target)
    return tuple(dict.fromkeys(release for release in (start, target) if release))


def rules_for(settings: Settings) -> tuple[AccessRule, ...]:
    """The rights that a run with these options needs on existing clusters."""
    if settings.installs:
        return FOR_INSTALLING
    pulls = settings.attachment is not None and settings.attachment.pull_secret is not None
    return (
        *NEEDED,
        *(FOR_CREDENTIALS if settings.may_make_credentials else ()),
        *(FOR_PULL_SECRET if pulls else ()),
        *(FOR_DISRUPTION if settings.may_disrupt else ()),
    )


def is_up_already(settings: Settings, narrator: Narrator) -> bool:
    """Whether the clusters existed before this run."""
    if settings.attachment is not None:
        return True
    if settings.making is not None:
        return are_kept(settings, settings.making, narrator)
    from meshproof.providers.lab.api import running  # needs pyroute2, as above

    return running(settings.lab_name) is not None


def no_mesh_to_verify(settings: Settings) -> BadInput:
    """The error for `--mesh=existing` without clusters."""
    if settings.making is not None:
        return BadInput(
            f"--mesh=existing: {settings.provider} clusters of --lab-name={settings.lab_name}",
            "no earlier run has kept them, so there is no mesh to verify",
            "omit --mesh, and keep the clusters for the next run with --keep",
        )
    return BadInput(
        f"--mesh=existing: lab {settings.lab_name}",
        "is not up, so there is no mesh to verify",
        "start it with `meshproof lab up --topology=NAME`, or omit --mesh",
    )


@contextmanager
def open_clusters(settings: Settings, narrator: Narrator) -> Iterator[Clusters]:
    """Clusters for all topologies of the run. If they outlive the run, the mesh does so only with `--keep`.

    Raises `BadInput` for settings that do not fit the clusters.
    """
    is_up = is_up_already(settings, narrator)
    if not settings.installs and not is_up:
        raise no_mesh_to_verify(settings)
    # Clusters that existed before outlive the run, but those of kind and gke only with `--keep`.
    ephemeral = not settings.keep and (settings.making is not None or not is_up)
    with open_provider(settings, narrator) as provider:
        here = Clusters(provider=provider, ephemeral=ephemeral)
        yield here
        if here.mesh is not None and not settings.keep and not here.ephemeral:
            uninstall_mesh(here.mesh, narrator)
