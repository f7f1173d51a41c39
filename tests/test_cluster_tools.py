"""`--provider=kind`, `--provider=gke` and `--plan`: options, missing programs, and that a plan tells no lies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshproof.core.errors import BadInput
from meshproof.core.progress import Silent
from meshproof.providers.cli_tools.clusters import open_made, toolbox_of
from meshproof.providers.cli_tools.commands import Shell
from meshproof.providers.cli_tools.settings import Making
from meshproof.run.cluster_tools import maker_of, plan_of
from meshproof.run.settings import OPTIONS, Settings, read_settings
from tests.maker_fakes import TOOLBOX, Tools, tools

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[1]


def settings(environment: dict[str, str] | None = None, /, **given: object) -> Settings:
    """Settings from options by their names without dashes."""
    known = {option.dest for option in OPTIONS}
    values = {f"meshproof_{name}": value for name, value in ({"topology": "multi-primary-samenet"} | given).items()}
    assert values.keys() <= known
    return read_settings(values, root=Path("/nowhere"), environment=environment or {})


@pytest.fixture(autouse=True)
def nothing_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program of this machine may be run, whatever it has."""
    monkeypatch.setenv("MESHPROOF_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def world() -> Iterator[Tools]:
    with tools() as world:
        yield world


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["kind", "gke"])
def test_clusters_that_we_make_are_ours_to_install_on_and_to_break(provider: str) -> None:
    chosen = settings(provider=provider)
    assert (chosen.provider, chosen.attachment, chosen.installs) == (provider, None, True)
    assert (chosen.may_disrupt, chosen.may_make_credentials) == (True, True)
    assert chosen.making == Making(istioctl=None, images={})
    assert not settings(provider=provider, mesh="existing").installs


def test_what_is_needed_to_make_them_is_taken_over(tmp_path: Path) -> None:
    istioctl = tmp_path / "istioctl"
    istioctl.touch(mode=0o755)
    given: dict[str, object] = {"istioctl": str(istioctl), "app_image": "app:1"}
    assert settings({"KIND_EXPERIMENTAL_PROVIDER": "podman"}, provider="kind", **given).making == Making(
        istioctl=istioctl, images={"app": "app:1"}, runtime="podman"
    )
    chosen = settings(provider="gke", gke_project="P", gke_zone="Z", lab_name="mine")
    assert chosen.making == Making(istioctl=None, images={}, project="P", zone="Z")
    assert chosen.again == "--provider=gke --gke-project=P --gke-zone=Z --lab-name=mine --keep"
    assert settings(provider="kind").again == "--provider=kind --keep"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"provider": "kind", "kubeconfig": "x"},
            "--kubeconfig with --provider=kind: it applies to existing clusters only, and kind creates its own\n"
            "  repair: use --provider=kubeconfig, or omit --kubeconfig",
        ),
        (
            {"provider": "gke", "context": ["cluster1=x"]},
            "--context with --provider=gke: it applies to existing clusters only, and gke creates its own\n"
            "  repair: use --provider=kubeconfig, or omit --context",
        ),
        (
            {"provider": "kind", "gke_zone": "Z"},
            "--gke-zone with --provider=kind: it applies to gke only\n  repair: use --provider=gke, or omit --gke-zone",
        ),
    ],
)
def test_options_of_other_providers_are_refused(given: dict[str, object], told: str) -> None:
    with pytest.raises(BadInput) as caught:
        settings(**given)
    assert str(caught.value) == told


def test_a_runtime_that_we_cannot_use_stops_kind_only() -> None:
    variable = {"KIND_EXPERIMENTAL_PROVIDER": "nerdctl"}
    with pytest.raises(BadInput, match="KIND_EXPERIMENTAL_PROVIDER=nerdctl: only docker and podman are supported"):
        settings(variable, provider="kind")
    assert settings(variable, provider="gke").making == Making(istioctl=None, images={})


# -- Istio ------------------------------------------------------------------------------------------------------------


def istioctl(folder: Path, version: str) -> Path:
    program = folder / "istioctl"
    program.write_text(
        f"#!/bin/sh\n[ \"$*\" = 'version --remote=false --short' ] && echo 'client version: {version}'\n"
    )
    program.chmod(0o755)
    return program


def test_istio_is_that_of_istioctl(tmp_path: Path) -> None:
    program = istioctl(tmp_path, "1.31.0")
    toolbox = toolbox_of(Making(istioctl=None, images={"app": "mine:1"}))
    assert (toolbox.istioctl, toolbox.hub, toolbox.tag) == (program, "docker.io/istio", "1.31.0")
    assert toolbox.images == {"app": "mine:1", "client": "docker.io/istio/proxyv2:1.31.0"}
    program.unlink()
    with pytest.raises(BadInput, match="istioctl: not in PATH"):
        toolbox_of(Making(istioctl=None, images={}))


def test_an_istioctl_whose_images_nobody_has_published_is_refused(tmp_path: Path) -> None:
    program = istioctl(tmp_path, "1.31.0-0123456789ab")
    with pytest.raises(BadInput, match=r"its version is 1\.31\.0-0123456789ab, but docker\.io/istio has images of"):
        toolbox_of(Making(istioctl=program, images={}))


# -- the plan ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topology", ["multi-primary-samenet", "primary-remote-multinet", "all"])
@pytest.mark.parametrize("provider", ["kind", "gke"])
def test_a_plan_has_the_commands_that_a_run_runs_in_their_order(provider: str, topology: str, world: Tools) -> None:
    chosen = settings(provider=provider, topology=topology)
    plan = plan_of(chosen)
    assert chosen.making is not None
    maker = maker_of(chosen, chosen.making, Shell(Silent(), world))
    with open_made(maker, chosen.topologies[0], TOOLBOX, Silent(), keep=False) as clusters:
        for each in chosen.topologies:
            clusters.connect(each)
    commands = [line for line in without_input(plan).split("\n") if line and not line.startswith("#")]
    ran = [" ".join(argv) for argv in world.ran]
    assert [command.replace("'", "") for command in ordered(commands)] == ordered(ran)


def without_input(plan: str) -> str:
    """The plan without what commands read."""
    first, *others = plan.split(" <<'END'\n")
    return first + "".join(other.partition("\nEND")[2] for other in others)


def ordered(lines: list[str]) -> list[str]:
    """What runs at the same time is in no order."""
    result: list[str] = []
    for line in lines:
        pair = [result.pop(), line] if result and twins(result[-1], line) else [line]
        result += sorted(pair)
    return result


def twins(one: str, other: str) -> bool:
    return "gcloud container clusters" in one and one.replace("cluster1", "cluster2") == other.replace(
        "cluster1", "cluster2"
    )


def test_a_plan_reads_as_a_script_with_reasons(tmp_path: Path) -> None:
    text = plan_of(settings(provider="kind", keep=True))
    folder = tmp_path / "state" / "made" / "kind-default"
    assert text.startswith(
        "# plan for --provider=kind: multi-primary-samenet\n"
        "# nothing has been started\n"
        "# needs kind, docker, kubectl, istioctl; not in PATH here: kind, docker, kubectl, istioctl\n"
        "# assuming that no such clusters exist; outputs of queries are examples, which later commands use\n"
        "\n"
        "# list of clusters\n"
        "kind get clusters\n"
        "\n"
        "# cluster cluster1, pods 10.129.0.0/16, services 10.1.0.0/16\n"
        f"kind create cluster --name meshproof-default-cluster1 --kubeconfig {folder}/cluster1.kubeconfig "
        "--wait 180s --config - <<'END'\n"
        "kind: Cluster\n"
    )
    assert text.endswith(
        "\n# -- at the end\n"
        "# clusters and mesh stay (--keep); the next run without --keep removes them:\n"
        "\n# list of clusters\n# kind get clusters\n"
        "\n# cluster meshproof-default-cluster1 is removed\n# kind delete cluster --name meshproof-default-cluster1\n"
        "\n# cluster meshproof-default-cluster2 is removed\n# kind delete cluster --name meshproof-default-cluster2"
    )
    assert not folder.exists()


def test_with_an_existing_mesh_nothing_is_made(tmp_path: Path) -> None:
    text = plan_of(settings(provider="kind", mesh="existing", keep=True))
    assert "create" not in text
    assert "ip route" not in text
    assert "the existing mesh is used (--mesh=existing)" in text


def test_plans_of_the_lab_and_of_a_kubeconfig_are_a_few_lines(tmp_path: Path) -> None:
    assert plan_of(settings(provider="lab", lab_name="mine")).split("\n")[2:] == [
        "# lab mine is used if it is up; otherwise missing Debian packages are installed, programs",
        "# not in the cache are built, and cluster1, cluster2 are started on this machine, as root (docs/lab.md)",
        "# multi-primary-samenet: routes between pods; the mesh is installed, and the claims are proven",
        "# a lab started by this run is removed",
    ]
    config = tmp_path / "config"
    config.write_text("contexts: []")
    assert plan_of(settings(kubeconfig=str(config), context=["cluster1=east"])).split("\n")[2:] == [
        f"# cluster1 is context east of --kubeconfig={config}: its version and our rights are queried",
        f"# cluster2 is context cluster2 of --kubeconfig={config}: its version and our rights are queried",
        "# multi-primary-samenet: the existing mesh is used (--mesh=existing), and the claims are proven "
        "(docs/attach.md)",
        "# clusters stay unchanged; probe namespaces created by this run are removed",
    ]


# -- as pytest runs it ------------------------------------------------------------------------------------------------

CONFTEST = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
pytest_plugins = [
    "fixtures.options", "fixtures.plan", "fixtures.topology", "fixtures.narration", "fixtures.provider",
    "fixtures.report", "fixtures.mesh",
]
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST)
    pytester.makeini(
        "[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\n"
        "markers =\n    claim(code): a claim\n    disruptive: it breaks things"
    )
    pytester.makepyfile(test_it="print('collected')\ndef test_it(clusters):\n    pass")
    return pytester


@pytest.mark.parametrize("provider", ["lab", "kind", "gke"])
def test_plan_ends_before_anything_is_collected(run: pytest.Pytester, provider: str) -> None:
    result = run.runpytest("--plan", f"--provider={provider}", "--topology=primary-remote-samenet")
    assert result.ret == pytest.ExitCode.OK
    assert result.outlines[0] == f"# plan for --provider={provider}: primary-remote-samenet"
    result.stdout.no_fnmatch_line("*collected*")
    assert not (run.path / "reports").exists()


def test_a_plan_of_nothing_is_a_usage_error(run: pytest.Pytester) -> None:
    for arguments, told in (
        (("--provider=kind",), "ERROR: --topology is missing: there is no default mesh"),
        (("--provider=aws",), "ERROR: --provider=aws: there is no such provider"),
    ):
        result = run.runpytest("--plan", *arguments)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([told])


@pytest.mark.parametrize(
    ("provider", "told"),
    [
        ("kind", "*--provider=kind: not in PATH: kind, docker, kubectl, istioctl*"),
        ("gke", "*--provider=gke: not in PATH: gcloud, gke-gcloud-auth-plugin, kubectl, istioctl*"),
    ],
)
def test_programs_that_are_missing_end_the_run(run: pytest.Pytester, provider: str, told: str) -> None:
    result = run.runpytest("test_it.py", f"--provider={provider}", "--topology=primary-remote-samenet")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines([told, "*repair: install*"])


def test_a_mesh_on_clusters_that_were_not_kept_cannot_be_verified(run: pytest.Pytester, tmp_path: Path) -> None:
    for name in ("kind", "docker", "kubectl"):
        (tmp_path / name).touch(mode=0o755)
    istioctl(tmp_path, "1.31.0")
    chosen = ("--provider=kind", "--mesh=existing", "--topology=primary-remote-samenet")
    result = run.runpytest("test_it.py", *chosen)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(
        ["*--mesh=existing: kind clusters of --lab-name=default: no earlier run has kept them*"]
    )
