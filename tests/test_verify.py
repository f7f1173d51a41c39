"""`meshproof verify`: what it prints about a mesh, what it runs, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from meshproof.claims.results import Result
from meshproof.claims.suite_run import ROOT, SuiteRun
from meshproof.cli import main as cli
from meshproof.cli import select_mesh
from meshproof.cli import verify as command
from meshproof.clients.kubernetes.client import Kube
from meshproof.core.errors import BadInput
from meshproof.core.model import ClusterName
from meshproof.detect.infer import find_clusters
from meshproof.detect.overview import overview
from meshproof.detect.propose import propose
from meshproof.providers.contexts import Attachment
from tests.install_fakes import TOOLBOX
from tests.test_detect import Cluster, primary, three, two_clusters

FIVE_LINES = """\
mesh            primary-remote-multinet: mesh1, trust domain cluster.local, 2 networks
cluster1        context a; primary; network1; istiod 1.31.0 of revision default, 1 ready
cluster2        context b; remote of cluster1; network2; revision default
gateways        cluster1 ingress (no address), east-west 10.0.0.1; cluster2 ingress (no address), no east-west
remote secrets  cluster1 has cluster2
"""


def test_two_clusters_are_five_lines() -> None:
    assert overview(find_clusters(two_clusters()), "primary-remote-multinet") == FIVE_LINES.splitlines()


def test_each_further_cluster_is_a_line_more_and_contradictions_are_shown() -> None:
    east, west, edge = three()
    edge.delete("Service", "istio-ingressgateway", "istio-system")
    east.add("ConfigMap", "istio-1-31", data={"mesh": "trustDomain: other"})
    assert overview(find_clusters([east, west, edge]), "mesh") == [
        "mesh            mesh: mesh1, trust domain other and cluster.local, 2 networks",
        "east            context a; primary; n1; istiod 1.31.0 of revision 1-31, 1 ready",
        "west            context b; primary; n2; istiod 1.31.0 of revision 1-31, 1 ready",
        "edge            context c; remote of west; n2; revision 1-31",
        "gateways        east ingress (no address), east-west 10.0.0.1; west ingress (no address), "
        "east-west 10.0.0.2; edge no ingress, no east-west",
        "remote secrets  east has none; west has none",
    ]


# -- the command ------------------------------------------------------------------------------------------------------


class Suites:
    """In place of the child process: what it was started with, and what it comes to."""

    def __init__(self, outcome: str = "GO", **results: Result) -> None:
        self.outcome, self.results, self.unfinished = outcome, results or {"TRUST_01": Result.SUCCEEDED}, ""
        self.runs: list[tuple[tuple[str, ...], Path]] = []

    def __call__(self, root: Path, arguments: Sequence[str], folder: Path, *, shown: bool) -> SuiteRun:
        assert (root, shown) == (ROOT, True)
        self.runs.append((tuple(arguments), folder))
        results = {code.replace("_", "-"): result for code, result in self.results.items()}
        return SuiteRun(results=results, outcome=self.outcome, unfinished=self.unfinished)


@pytest.fixture
def suites(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Suites:
    """On the clusters of contexts a and b, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "config").write_text("contexts: [{name: a}, {name: b}]")
    ran = Suites()
    monkeypatch.setattr(command, "run_claims", ran)
    are_there(monkeypatch, two_clusters())
    return ran


def are_there(monkeypatch: pytest.MonkeyPatch, kubes: Sequence[Cluster]) -> None:
    """These are the clusters of the contexts."""
    there = {kube.context: kube for kube in kubes}

    def greeted(attachment: Attachment, clusters: Sequence[ClusterName], rules: object) -> list[Kube]:
        found: list[Kube] = []
        for cluster in clusters:
            kube: Cluster = there[attachment.contexts[cluster].name]
            kube.name = cluster
            kube.kubeconfig = attachment.kubeconfig
            found.append(kube)
        return found

    monkeypatch.setattr(select_mesh, "greeted", greeted)
    monkeypatch.setattr(select_mesh, "proposal_for", lambda it: propose(find_clusters(greeted(it, [*it.contexts], ()))))
    monkeypatch.setattr(select_mesh, "reading_toolbox", lambda *_: TOOLBOX)


SUITES = ("suites/trust", "suites/discovery", "suites/gateways", "suites/controlplane", "suites/traffic")


@pytest.mark.parametrize("contexts", [("a", "b"), ("b", "a")])
def test_contexts_are_all_that_it_needs(
    suites: Suites, tmp_path: Path, capsys: pytest.CaptureFixture[str], contexts: Sequence[str]
) -> None:
    given = [f"--context={context}" for context in contexts]
    assert cli.main(["verify", "--kubeconfig=config", *given]) == 0
    printed = capsys.readouterr().out
    assert FIVE_LINES in printed
    assert printed.endswith("GO: 1 claim holds\n")
    ((arguments, folder),) = suites.runs
    assert folder == tmp_path / "reports"
    assert arguments[:6] == (*SUITES, "--topology=primary-remote-multinet")
    assert f"--kubeconfig={tmp_path / 'config'}" in arguments
    assert {"--context=cluster1=a", "--context=cluster2=b"} <= set(arguments)
    assert [argument for argument in arguments if "image" in argument or "disruptive" in argument] == []


def test_a_mesh_that_is_none_of_ours_is_written_to_the_report_folder(
    suites: Suites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    east, west = primary("a", "east", "n1", "10.0.0.1"), primary("b", "west", "n2", "10.0.0.2")
    are_there(monkeypatch, [east, west])
    given = ["--context=a", "--context=b", "--kubeconfig=config", "--report-dir=here/r", "--client-image=c:1"]
    assert cli.main(["verify", *given, "--allow-credentials"]) == 0
    assert "mesh            a topology of its own: mesh1, " in capsys.readouterr().out
    ((arguments, folder),) = suites.runs
    file = tmp_path / "here" / "r" / "mesh.yaml"
    assert f"--topology={file}" in arguments
    assert "- name: east" in file.read_text()
    assert {"--client-image=c:1", "--allow-credentials"} <= set(arguments)
    assert folder == file.parent


def test_a_topology_is_compared_before_anything_runs(suites: Suites, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["verify", "--kubeconfig=config", "--context=b", "--context=a"]
    assert cli.main([*given, "--topology=primary-remote-multinet"]) == 0
    assert "--context=cluster1=a" in suites.runs.pop()[0], "clusters are known by their names in Istio"
    assert cli.main([*given, "--topology=multi-primary-multinet"]) == 2
    captured = capsys.readouterr()
    assert "meshproof: --topology=multi-primary-multinet: it does not match the clusters:\n" in captured.err
    assert "cluster2 (context b): the topology has a primary, but it has no istiod" in captured.err
    assert suites.runs == []


@pytest.mark.parametrize(
    ("outcome", "results", "code", "last"),
    [
        ("GO", {"TRUST_01": Result.SUCCEEDED, "TRUST_06": Result.SKIPPED}, 0, "GO: 1 claim holds, 1 was not asked"),
        ("NO-GO", {"TRUST_01": Result.FAILED}, 4, "NO-GO: 1 claim does not hold"),
        ("NOT KNOWN", {"TRUST_01": Result.BROKEN}, 1, "NOT KNOWN: 1 claim is BROKEN (nothing is known about it)"),
        ("GO", {"TRUST_01": Result.SKIPPED}, 1, "NOT KNOWN: 1 claim was not asked"),
        ("", {"TRUST_01": Result.SUCCEEDED}, 1, "NOT KNOWN: 1 claim holds"),
    ],
)
def test_the_exit_code_is_the_verdict(
    suites: Suites,
    capsys: pytest.CaptureFixture[str],
    outcome: str,
    results: dict[str, Result],
    code: int,
    last: str,
) -> None:
    suites.outcome, suites.results = outcome, results
    assert cli.main(["verify", "--kubeconfig=config", "--context=a", "--context=b"]) == code
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_half_a_run_is_no_go(suites: Suites, capsys: pytest.CaptureFixture[str]) -> None:
    suites.unfinished = "exit code 2, see above"
    assert cli.main(["verify", "--kubeconfig=config", "--context=a", "--context=b"]) == 1
    assert capsys.readouterr().out.endswith("NOT KNOWN: 1 claim holds\n")


def test_without_contexts_those_that_there_are_are_listed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("CTX_CLUSTER1", "CTX_CLUSTER2"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "config").write_text("contexts: [{name: prod-a}, {name: prod-b}]")
    assert cli.main(["verify", "--kubeconfig=config"]) == 2
    assert capsys.readouterr().err.endswith(
        "meshproof: the clusters: no option names their contexts\n"
        "  repair: name each with --context=CONTEXT; contexts in --kubeconfig=config: prod-a, prod-b\n"
    )


def test_what_ends_the_child_ends_the_command(
    suites: Suites, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> SuiteRun:
        raise BadInput("the suites", "the run could not begin", "see above")

    monkeypatch.setattr(command, "run_claims", refuse)
    assert cli.main(["verify", "--kubeconfig=config", "--context=a", "--context=b"]) == 2
    assert capsys.readouterr().err.endswith("meshproof: the suites: the run could not begin\n  repair: see above\n")


def test_the_help_has_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["verify", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "Exit codes: 0: GO; 4: NO-GO; 1: NOT KNOWN, where NO-GO means" in told
    assert "meshproof verify --context=prod-a --context=prod-b" in told
