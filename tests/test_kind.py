"""Clusters by kind: which commands are run, in which order, and what is left after all that can go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from meshproof.core.errors import BadInput, Broken
from meshproof.core.model import Topology
from meshproof.core.progress import Silent
from meshproof.core.topology import load_topology
from meshproof.providers.cli_tools.clusters import MadeClusters, is_kept, open_made
from meshproof.providers.cli_tools.commands import DryRunner, Shell
from meshproof.providers.cli_tools.kind import METALLB, KindProvider, plan_clusters, pool_of, runtime_of
from tests.install_fakes import three_clusters
from tests.maker_fakes import TOOLBOX, Tools, tools

SAMENET, MULTINET = load_topology("multi-primary-samenet"), load_topology("primary-remote-multinet")
ONE, TWO = "meshproof-default-cluster1", "meshproof-default-cluster2"
LOOK = "kind get clusters"
CREATE = [
    f"kind create cluster --name {name} --kubeconfig ~/cluster{n}.kubeconfig --wait 180s --config -"
    for n, name in ((1, ONE), (2, TWO))
]
DELETE = [f"kind delete cluster --name {name}" for name in (ONE, TWO)]


def load_balancer(number: int, name: str) -> list[str]:
    kubectl = f"kubectl --kubeconfig ~/cluster{number}.kubeconfig"
    rollout = f"{kubectl} rollout status --namespace metallb-system"
    return [
        f"{kubectl} label nodes --all node.kubernetes.io/exclude-from-external-load-balancers-",
        f"{kubectl} apply --filename {METALLB}",
        f"{rollout} deployment/controller --timeout=180s",
        f"{rollout} daemonset/speaker --timeout=180s",
        f"docker inspect --format {{{{json .NetworkSettings.Networks}}}} {name}-control-plane",
        f"{kubectl} apply --filename -",
    ]


START = [LOOK, *CREATE, *load_balancer(1, ONE), *load_balancer(2, TWO)]
END = [LOOK, *DELETE]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESHPROOF_STATE", str(tmp_path / "state"))
    return tmp_path / "state" / "made" / "kind-default"


@pytest.fixture
def world() -> Iterator[Tools]:
    with tools() as world:
        yield world


def maker(world: Tools, topology: Topology = SAMENET, *, runtime: str = "docker") -> KindProvider:
    return KindProvider("default", topology, Shell(Silent(), world), runtime=runtime)


def opened(
    world: Tools, *, keep: bool = False, runtime: str = "docker", topology: Topology = SAMENET
) -> AbstractContextManager[MadeClusters]:
    return open_made(maker(world, topology, runtime=runtime), topology, TOOLBOX, Silent(), keep=keep)


def test_a_run_makes_connects_and_removes_its_clusters(world: Tools, state: Path) -> None:
    with opened(world) as provider:
        assert world.lines(state) == START
        provider.connect(SAMENET)
        assert world.lines(state) == [
            f"docker exec {ONE}-control-plane ip route replace 10.130.0.0/16 via 172.18.0.3",
            f"docker exec {TWO}-control-plane ip route replace 10.129.0.0/16 via 172.18.0.2",
        ]
        provider.connect(MULTINET)
        assert world.lines(state) == [
            f"docker exec {ONE}-control-plane ip route replace unreachable 10.130.0.0/16",
            f"docker exec {TWO}-control-plane ip route replace unreachable 10.129.0.0/16",
        ]
    assert world.lines(state) == END
    assert (world.clusters, state.exists()) == ([], False)


def test_clusters_are_handed_over_as_those_of_a_kubeconfig_are(world: Tools, state: Path) -> None:
    with opened(world) as provider:
        assert [(c.name, c.context, c.server_for_peers) for c in provider.clusters] == [
            ("cluster1", f"kind-{ONE}", "https://172.18.0.2:6443"),
            ("cluster2", f"kind-{TWO}", "https://172.18.0.3:6443"),
        ]
        assert provider.clusters[0].kubeconfig == Path(f"{state}/cluster1.kubeconfig:{state}/cluster2.kubeconfig")
        assert (provider.name, provider.machine_control, provider.problems()) == ("kind", None, ())
        assert provider.toolbox is TOOLBOX


def test_ranges_and_load_balancers_do_not_overlap(world: Tools) -> None:
    with opened(world):
        given = [text for text in world.stdin if text]
    assert [line for text in given for line in text.split("\n") if "Subnet" in line or line.startswith("  - ")] == [
        "  podSubnet: 10.129.0.0/16",
        "  serviceSubnet: 10.1.0.0/16",
        "  podSubnet: 10.130.0.0/16",
        "  serviceSubnet: 10.2.0.0/16",
        "  - 172.18.255.239-172.18.255.254",
        "  - 172.18.255.223-172.18.255.238",
    ]
    assert given[2].count("---\n") == 1
    assert "kind: L2Advertisement" in given[2]


def test_podman_is_named_to_kind_and_run_for_the_rest(world: Tools, state: Path) -> None:
    with opened(world, runtime="podman") as provider:
        provider.connect(SAMENET)
    lines = world.lines(state)
    assert [line for line in lines if line.startswith("kind")] == []
    assert [line for line in lines if "docker" in line] == []
    assert f"podman exec {ONE}-control-plane ip route replace 10.130.0.0/16 via 172.18.0.3" in lines
    assert lines[-1] == f"env KIND_EXPERIMENTAL_PROVIDER=podman kind delete cluster --name {TWO}"


def test_of_three_clusters_only_those_on_one_network_are_connected(tmp_path: Path) -> None:
    topology = three_clusters(tmp_path)
    rehearsal = DryRunner()
    KindProvider("x", topology, rehearsal, runtime="docker").connect(topology)
    routes = {" ".join(c.argv[2:]) for c in rehearsal.commands if "exec" in c.argv}
    assert len(routes) == 6
    assert {route for route in routes if "via" in route} == {
        "meshproof-x-west-control-plane ip route replace 10.131.0.0/16 via 172.18.0.4",
        "meshproof-x-edge-control-plane ip route replace 10.130.0.0/16 via 172.18.0.3",
    }


def test_kept_clusters_are_used_by_the_next_run_which_removes_them(world: Tools, state: Path) -> None:
    with opened(world, keep=True):
        world.lines(state)
        assert not is_kept(maker(world)), "a killed run must not pass for one that has kept its clusters"
    assert world.lines(state) == []
    assert is_kept(maker(world))
    with opened(world) as provider:
        inspect = [line for line in START if line.startswith("docker inspect")]
        assert world.lines(state) == [LOOK, *inspect]
        assert len(provider.clusters) == 2
    assert world.lines(state) == END


def test_what_a_killed_run_left_is_removed_first(world: Tools, state: Path) -> None:
    with opened(world, keep=True):
        folder = maker(world).folder
        as_it_runs = folder.read()
    assert as_it_runs is not None
    folder.write(as_it_runs)
    world.lines(state)
    with opened(world):
        assert world.lines(state) == [LOOK, *DELETE, *START[1:]]
    assert world.clusters == []


def test_kept_clusters_that_are_gone_are_made_anew(world: Tools, state: Path) -> None:
    with opened(world, keep=True):
        pass
    world.clusters.remove(TWO)
    world.lines(state)
    with opened(world):
        assert world.lines(state) == [LOOK, DELETE[0], *START[1:]]


def test_clusters_that_nobody_wrote_down_are_somebody_elses(world: Tools, state: Path) -> None:
    world.clusters.append(TWO)
    with pytest.raises(BadInput) as caught, opened(world):
        pass
    assert str(caught.value) == (
        f"cluster {TWO} of kind: exists, but this machine has no record that meshproof created it\n"
        f"  repair: choose another --lab-name, or remove it: {DELETE[1]}"
    )
    assert world.lines(state) == [LOOK]
    assert world.clusters == [TWO]


def test_clusters_of_another_runtime_are_not_forgotten(world: Tools) -> None:
    with opened(world, keep=True):
        pass
    with pytest.raises(BadInput, match="an earlier run has left them in docker, this one is for podman"):
        opened(world, runtime="podman").__enter__()
    assert is_kept(maker(world))


def test_a_command_that_fails_is_told_whole_and_nothing_stays(world: Tools, state: Path) -> None:
    world.failing[f"create cluster --name {TWO}"] = ["exit code 1; last output: no space left"]
    with pytest.raises(Broken) as caught, opened(world):
        pass
    kubeconfig = f"{state}/cluster2.kubeconfig"
    assert str(caught.value) == (
        f"kind create cluster --name {TWO} --kubeconfig {kubeconfig} --wait 180s --config - <<'END'\n"
        "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnetworking:\n  podSubnet: 10.130.0.0/16\n"
        "  serviceSubnet: 10.2.0.0/16\nEND: exit code 1; last output: no space left\n"
        "  repair: run it by hand for the complete output"
    )
    assert world.lines(state) == [*START[:3], LOOK, DELETE[0]]
    assert (world.clusters, state.exists()) == ([], False)


def test_what_cannot_be_removed_is_told_tried_all_the_same_and_removed_by_the_next_run(
    world: Tools, state: Path
) -> None:
    world.failing[METALLB] = ["exit code 1; last output: no route to host"]
    world.failing[f"delete cluster --name {ONE}"] = ["exit code 1; last output: busy"]
    with pytest.raises(Broken, match="no route to host") as caught, opened(world):
        pass
    (note,) = caught.value.__notes__
    assert note.startswith(
        f"and what had been created could not be removed: {DELETE[0]}: exit code 1; last output: busy"
    )
    assert world.clusters == [ONE]
    world.lines(state)
    with opened(world):
        assert world.lines(state) == [LOOK, DELETE[0], *START[1:]]


def test_a_removal_that_fails_at_the_end_fails_the_run_and_is_tried_again(world: Tools, state: Path) -> None:
    world.failing[f"delete cluster --name {ONE}"] = ["exit code 1"]
    with pytest.raises(Broken, match=DELETE[0]), opened(world):
        pass
    assert world.clusters == [ONE]
    with opened(world):
        pass
    assert (world.clusters, state.exists()) == ([], False)


def test_kind_that_does_not_work_at_all_is_asked_once(world: Tools, state: Path) -> None:
    world.failing[LOOK] = ["exit code 1; last output: is the docker daemon running?"]
    with pytest.raises(Broken, match="is the docker daemon running"), opened(world):
        pass
    assert world.lines(state) == [LOOK]


def test_metallbs_webhook_may_take_its_time(world: Tools, state: Path) -> None:
    world.failing["cluster1.kubeconfig apply --filename -"] = ['failed calling webhook "x"', "failed calling webhook"]
    with opened(world):
        pass
    assert world.lines(state).count("kubectl --kubeconfig ~/cluster1.kubeconfig apply --filename -") == 3


def test_two_runs_of_one_name_do_not_share_clusters(world: Tools) -> None:
    with opened(world), pytest.raises(BadInput, match=r"kind clusters of --lab-name=default: another run is using"):
        opened(world).__enter__()


def test_a_record_that_cannot_be_read_stops_the_run(world: Tools, state: Path) -> None:
    with opened(world, keep=True):
        pass
    (state / "record.json").write_text("{")
    with pytest.raises(BadInput, match=r"record.json: cannot be read"), opened(world):
        pass


@pytest.mark.parametrize(
    ("there", "named", "expected"),
    [
        (("docker", "podman"), "", "docker"),
        (("podman",), "", "podman"),
        (("docker", "podman"), "podman", "podman"),
        ((), "", "docker"),
    ],
)
def test_podman_is_taken_if_it_is_named_or_alone(
    there: tuple[str, ...], named: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in there:
        (tmp_path / name).touch(mode=0o755)
    assert runtime_of(named) == expected


@pytest.mark.parametrize("told", ["", "null", "{}", '{"kind": {"IPAddress": "", "IPPrefixLen": 0}}'])
def test_a_node_without_an_address_is_named(told: str) -> None:
    class Mute(DryRunner):
        def run(self, command: object) -> str:
            return told

    with pytest.raises(Broken, match=f"{ONE}-control-plane: no IPv4 address in"):
        KindProvider("default", SAMENET, Mute(), runtime="docker").peers()


def test_ranges_of_the_topology_are_taken_unless_they_overlap(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = SAMENET.source.read_text()
    path.write_text(text.replace("app_version: v2", "app_version: v2\n    pods: 10.77.0.0/16"))
    assert [str(c.pods) for c in plan_clusters("x", load_topology(str(path))).values()] == [
        "10.129.0.0/16",
        "10.77.0.0/16",
    ]
    path.write_text(text.replace("app_version: v2", "app_version: v2\n    pods: 10.1.0.0/17"))
    with pytest.raises(BadInput, match=r"10.1.0.0/16 for services of cluster1 overlaps 10.1.0.0/17 for pods of"):
        plan_clusters("x", load_topology(str(path)))


def test_load_balancers_have_the_end_of_the_nodes_network() -> None:
    small = IPv4Network("10.89.0.0/24")
    assert [tuple(map(str, pool_of(small, place))) for place in (1, 7)] == [
        ("10.89.0.239", "10.89.0.254"),
        ("10.89.0.143", "10.89.0.158"),
    ]
    with pytest.raises(Broken, match="too small for the addresses of cluster 8"):
        pool_of(small, 8)


@pytest.mark.parametrize("name", ["", "Big", "a/b", "a" * 17])
def test_names_that_cannot_be_part_of_a_clusters_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match=f"--lab-name={name}: must be"):
        KindProvider(name, SAMENET, DryRunner(), runtime="docker")
