"""Clusters by gcloud: which commands are run, in which order, and what is left after all that can go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from meshproof.core.errors import BadInput, Broken
from meshproof.core.model import Topology
from meshproof.core.progress import Silent
from meshproof.core.topology import load_topology
from meshproof.providers.cli_tools.clusters import MadeClusters, open_made
from meshproof.providers.cli_tools.commands import DryRunner, Shell
from meshproof.providers.cli_tools.gke import GkeProvider
from tests.install_fakes import three_clusters
from tests.maker_fakes import TOOLBOX, Tools, tools

SAMENET, MULTINET = load_topology("primary-remote-samenet"), load_topology("multi-primary-multinet")
ONE, TWO = "meshproof-default-cluster1", "meshproof-default-cluster2"
IN_ZONE = "--project P --zone Z"
LOOK = "gcloud container clusters list --zone Z --format=value(name) --project P"
CREATE = [
    f"env KUBECONFIG=~/cluster{n}.kubeconfig gcloud container clusters create {name} {IN_ZONE} --network default "
    "--enable-ip-alias --num-nodes 2 --machine-type e2-standard-2 --quiet"
    for n, name in ((1, ONE), (2, TWO))
]
LOG_IN = [
    f"env KUBECONFIG=~/cluster{n}.kubeconfig gcloud container clusters get-credentials {name} {IN_ZONE}"
    for n, name in ((1, ONE), (2, TWO))
]
SERVICES = [
    f"env KUBECONFIG=~/cluster{n}.kubeconfig kubectl delete services --all-namespaces "
    f"--selector app.kubernetes.io/managed-by=meshproof --timeout=300s"
    for n in (1, 2)
]
RULES = "gcloud compute firewall-rules list --filter=description=meshproof-default --format=value(name) --project P"
CLOSE = "gcloud compute firewall-rules delete meshproof-default-pods-1 --project P --quiet"
DELETE = [f"gcloud container clusters delete {name} {IN_ZONE} --quiet" for name in (ONE, TWO)]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESHPROOF_STATE", str(tmp_path / "state"))
    return tmp_path / "state" / "made" / "gke-default"


@pytest.fixture
def world() -> Iterator[Tools]:
    with tools() as world:
        yield world


def opened(world: Tools, *, keep: bool = False, zone: str = "Z") -> AbstractContextManager[MadeClusters]:
    maker = GkeProvider("default", SAMENET, Shell(Silent(), world), project="P", zone=zone)
    return open_made(maker, SAMENET, TOOLBOX, Silent(), keep=keep)


def at_once(lines: list[str], *those: str) -> list[str]:
    """The lines with those that run at the same time in the order in which they were asked for."""
    places = sorted(lines.index(line) for line in those)
    assert places == list(range(places[0], places[0] + len(those)))
    lines[places[0] : places[0] + len(those)] = those
    return lines


def test_a_run_makes_connects_and_removes_its_clusters(world: Tools, state: Path) -> None:
    with opened(world) as provider:
        assert at_once(world.lines(state), *CREATE) == [LOOK, *CREATE, *LOG_IN]
        assert [(c.name, c.context, c.server_for_peers) for c in provider.clusters] == [
            ("cluster1", f"gke_P_Z_{ONE}", world.servers["1"].url),
            ("cluster2", f"gke_P_Z_{TWO}", world.servers["2"].url),
        ]
        assert (provider.name, provider.machine_control) == ("gke", None)
        provider.connect(SAMENET)
        describe = "gcloud container clusters describe"
        instances = "gcloud compute instances list --filter=labels.goog-k8s-cluster-name="
        assert world.lines(state) == [
            RULES,
            *(f"{describe} {n} --zone Z --format=value(clusterIpv4Cidr) --project P" for n in (ONE, TWO)),
            *(f"{instances}{n} --zones Z --format=value(tags.items.[0]) --project P" for n in (ONE, TWO)),
            "gcloud compute firewall-rules create meshproof-default-pods-1 --project P --network default "
            "--direction INGRESS --priority 900 --allow tcp,udp,icmp,esp,ah,sctp "
            "--source-ranges 10.4.0.0/14,10.8.0.0/14 "
            f"--target-tags gke-{ONE}-0123abcd-node,gke-{TWO}-0123abcd-node "
            "--description meshproof-default --quiet",
        ]
    lines = at_once(world.lines(state), *DELETE)
    assert lines == [LOOK, *SERVICES, RULES, CLOSE, *DELETE]
    assert (world.clusters, world.rules, state.exists()) == ([], [], False)


def test_networks_are_taken_apart_again_for_the_next_topology(world: Tools, state: Path) -> None:
    with opened(world) as provider:
        provider.connect(SAMENET)
        world.lines(state)
        provider.connect(MULTINET)
        assert world.lines(state) == [RULES, CLOSE]
        provider.connect(MULTINET)
        assert world.lines(state) == [RULES]


def test_only_clusters_on_one_network_are_let_in(tmp_path: Path) -> None:
    topology: Topology = three_clusters(tmp_path)
    rehearsal = DryRunner()
    GkeProvider("x", topology, rehearsal, project="P", zone="Z").connect(topology)
    (create,) = (c.argv for c in rehearsal.commands if "create" in c.argv)
    assert create[create.index("--source-ranges") + 1] == "10.8.0.0/14,10.12.0.0/14"
    assert create[4] == "meshproof-x-pods-2"


def test_project_and_zone_are_those_of_gclouds_configuration(world: Tools) -> None:
    maker = GkeProvider("default", SAMENET, Shell(Silent(), world), project="", zone="")
    assert maker.where == "project PROJECT, zone ZONE"
    assert [" ".join(argv) for argv in world.ran] == [
        "gcloud config get-value project",
        "gcloud config get-value compute/zone",
    ]


def test_without_a_zone_the_option_is_named() -> None:
    class Unset(DryRunner):
        def run(self, command: object) -> str:
            return ""

    with pytest.raises(BadInput) as caught:
        GkeProvider("default", SAMENET, Unset(), project="P", zone="")
    assert str(caught.value) == (
        "--gke-zone is missing: `gcloud config get-value compute/zone` has no value\n"
        "  repair: use --gke-zone, or `gcloud config set compute/zone`"
    )


def test_kept_clusters_are_used_in_the_same_place_only(world: Tools, state: Path) -> None:
    with opened(world, keep=True):
        pass
    world.lines(state)
    with pytest.raises(BadInput) as caught:
        opened(world, zone="Y").__enter__()
    assert str(caught.value) == (
        "gke clusters of --lab-name=default: an earlier run has left them in project P, zone Z, this one is for "
        "project P, zone Y\n"
        "  repair: run for the same place once, without --keep, or choose another --lab-name"
    )
    with opened(world):
        assert world.lines(state) == [LOOK]
    assert (world.clusters, world.rules) == ([], [])


def test_clusters_of_another_machine_are_left_alone(world: Tools, state: Path) -> None:
    world.clusters.append(ONE)
    with pytest.raises(BadInput, match=f"or remove it: {DELETE[0]}$"):
        opened(world).__enter__()
    assert world.lines(state) == [LOOK]


def test_a_cluster_that_cannot_be_made_takes_the_other_and_old_rules_with_it(world: Tools, state: Path) -> None:
    world.rules.append("meshproof-default-pods-1")
    world.failing[f"create {TWO}"] = ["exit code 1; last output: Insufficient regional quota"]
    with pytest.raises(Broken, match="Insufficient regional quota") as caught:
        opened(world).__enter__()
    assert str(caught.value).startswith(f"env KUBECONFIG={state}/cluster2.kubeconfig gcloud container clusters create")
    assert at_once(world.lines(state), *CREATE)[3:] == [LOOK, RULES, CLOSE, DELETE[0]]
    assert (world.clusters, world.rules) == ([], [])


def test_clusters_are_deleted_even_if_all_else_fails(world: Tools, state: Path) -> None:
    world.failing["delete services"] = ["exit code 1; last output: unreachable"] * 2
    world.failing["firewall-rules list"] = ["exit code 1; last output: forbidden"]
    with pytest.raises(Broken, match="unreachable") as caught, opened(world):
        pass
    assert len(caught.value.__notes__) == 2
    assert "forbidden" in caught.value.__notes__[1]
    assert world.clusters == []


def test_a_cluster_that_is_busy_is_waited_for(world: Tools, state: Path) -> None:
    with opened(world):
        world.failing[f"delete {ONE}"] = ["exit code 1; last output: Cluster is running incompatible operation op-1."]
    assert world.lines(state).count(DELETE[0]) == 2
    assert world.clusters == []


def test_names_longer_than_gke_allows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text(SAMENET.source.read_text().replace("cluster2", "the-other-cluster"))
    with pytest.raises(BadInput, match="has 43 characters, but GKE allows 40"):
        GkeProvider("a-long-lab-name", load_topology(str(path)), DryRunner(), project="P", zone="Z")


def test_clusters_without_node_tags_are_named() -> None:
    class NoTags(DryRunner):
        def run(self, command: object) -> str:
            return "" if "instances" in str(command) else "10.4.0.0/14"

    with pytest.raises(Broken, match="empty output, expected the node tags of cluster1"):
        GkeProvider("x", SAMENET, NoTags(), project="P", zone="Z").connect(SAMENET)
