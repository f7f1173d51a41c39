"""A mesh installed on clusters of others, through a plain kubeconfig, when that is asked for: and then it is gone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from meshproof.clients.kubernetes.client import Kube
from meshproof.clients.kubernetes.manifests import core
from meshproof.clients.kubernetes.rollout import bad_states
from meshproof.core.concurrency import together
from meshproof.core.model import PullSecret
from meshproof.core.progress import Narrator
from meshproof.core.waiting import NotYet, eventually
from meshproof.providers.lab import api as labs
from meshproof.providers.lab.api import Lab
from meshproof.providers.lab.build.images import APP, CLIENT

from .conftest import CLUSTERS
from .objects import differences, everything
from .registry import HELD, pull_secret, registry
from .visits import IMAGES, Visit, must_be_a_full_verdict, plain_kubeconfig, project

pytestmark = pytest.mark.lab

REVISED = """\
title: Primary-remote on different networks, of a revision, on clusters of others
mesh_id: mesh1
trust_domain: cluster.local
clusters:
  - name: east
    role: primary
    network: network1
    app_version: v1
    revision: 1-31
    context: "arn:east"
    ingress: istio-ingress/istio-ingress
    east_west: edge/istio-crossing
  - {name: west, role: remote, control_plane: east, network: network2, app_version: v2, context: "arn:west"}
"""


PULL = PullSecret(namespace="default", name="pull")
PULLED = (
    f"--client-image={HELD[CLIENT]}",
    f"--app-image={HELD[APP]}",
    f"--image-pull-secret={PULL.namespace}/{PULL.name}",
)


@pytest.fixture(scope="module")
def lab(narrator: Narrator) -> Iterator[Lab]:
    """One of its own: its kubelets remember that images were pulled with a secret, and give these, by whatever name, to
    no pod without it (KubeletEnsureSecretPulledImages)."""
    name = f"scratch-{os.getpid()}"
    yield labs.up(name, CLUSTERS, narrator, stays=False)
    labs.down(name, narrator)


@pytest.fixture
def kubes(lab: Lab) -> list[Kube]:
    return [Kube(access.kubeconfig, access.context, name=access.name) for access in lab.clusters]


@pytest.fixture
def visit(lab: Lab, tmp_path: Path) -> Visit:
    """As administrator, with what is installed named by options only."""
    files = []
    for access in lab.clusters:
        user = yaml.safe_load(access.kubeconfig.read_text())["users"][0]["user"]
        files.append(plain_kubeconfig(tmp_path, access, user))
    folder = project(tmp_path / "project")
    (folder / "mesh.yaml").write_text(REVISED)
    values = {"hub": lab.toolbox.hub, "tag": lab.toolbox.tag, **lab.toolbox.istio_values}
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    return Visit(folder=folder, environment={**os.environ, "KUBECONFIG": os.pathsep.join(map(str, files))})


def options(lab: Lab) -> tuple[str, ...]:
    return (
        "--topology=mesh.yaml",
        "--mesh=install",
        "--istio-values=values.yaml",
        f"--istioctl={lab.toolbox.istioctl}",
    )


@pytest.fixture
def secret(lab: Lab, kubes: list[Kube], tmp_path: Path) -> Iterator[None]:
    """A registry that wants to know who pulls, and in every cluster the secret that says so."""
    made = pull_secret(PULL.name, PULL.namespace)
    with registry(lab, tmp_path):
        together(lambda kube: kube.apply(made), kubes)
        yield
        together(lambda kube: kube.delete("Secret", PULL.name, PULL.namespace), kubes)


@pytest.mark.usefixtures("secret")
def test_without_the_secret_nothing_is_pulled(kubes: list[Kube]) -> None:
    """The control: the registry does refuse whoever does not name the secret."""
    kube = kubes[0]
    container = {"name": "probe", "image": HELD[CLIENT]}
    meta = {"name": "without-secret", "namespace": PULL.namespace}
    kube.apply(core("Pod", meta, spec={"containers": [container], "terminationGracePeriodSeconds": 0}))

    def refused() -> None:
        states = bad_states(None, [kube.find("Pod", meta["name"], meta["namespace"]) or {}])
        if not any("401 Unauthorized" in state.text for state in states):
            raise NotYet("; ".join(state.text for state in states))

    try:
        eventually(refused, what="the pull", timeout_s=30.0, poll_s=0.5)
    finally:
        kube.delete("Pod", meta["name"], meta["namespace"])


@pytest.mark.usefixtures("secret")
def test_a_mesh_of_a_revision_is_installed_proven_and_gone(
    lab: Lab, kubes: list[Kube], visit: Visit, narrator: Narrator
) -> None:
    """With a revision istiod's objects have other names, and namespaces other labels; the gateways of one cluster have
    names and namespaces of their own, and are selected otherwise than the other's; probes are pulled with a secret. All
    claims hold all the same."""
    before = together(everything, kubes)
    with narrator.step("pytest --mesh=install on a kubeconfig in a process of its own"):
        done = visit.pytest(*options(lab), *PULLED, timeout_s=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "east gets the namespaces istio-system, meshproof-app, meshproof-clients, istio-ingress, edge, "
        "meshproof-outside;" in done.stdout
    )
    after = together(everything, kubes)
    for kube, one, other in zip(kubes, before, after, strict=True):
        assert differences(one, other) == [], f"{kube.name}\n{done.stdout}"
    must_be_a_full_verdict(yaml.safe_load((visit.folder / "reports" / "verdict.yaml").read_text()), "mesh")


def test_what_is_there_and_not_ours_is_in_the_way_and_stays(lab: Lab, kubes: list[Kube], visit: Visit) -> None:
    foreign = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "meshproof-clients"}}
    kubes[1].create(foreign)
    try:
        before = together(everything, kubes)
        done = visit.pytest(*options(lab), *IMAGES)
        assert done.returncode == pytest.ExitCode.USAGE_ERROR
        told = done.stdout + done.stderr
        assert "objects that meshproof did not create are in the way:\n  - west: Namespace meshproof-clients\n" in told
        for one, other in zip(before, together(everything, kubes), strict=True):
            assert differences(one, other) == []
    finally:
        kubes[1].delete("Namespace", "meshproof-clients")
