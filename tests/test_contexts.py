"""Which clusters of which kubeconfig a run is for: options, the environment, and what must not be confused."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshproof.core.errors import BadInput
from meshproof.core.model import ClusterName
from meshproof.run.settings import OPTIONS, Settings, read_settings
from tests.install_fakes import three_clusters

ONE, TWO = ClusterName("cluster1"), ClusterName("cluster2")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubeconfig where kubectl looks for one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".kube" / "config"
    path.parent.mkdir()
    path.write_text("contexts: []\n")
    return path


def settings(environment: dict[str, str] | None = None, /, **given: object) -> Settings:
    """Settings from options by their names without dashes; the topology is one of two clusters unless given."""
    known = {option.dest for option in OPTIONS}
    values = {f"meshproof_{name}": value for name, value in ({"topology": "multi-primary-multinet"} | given).items()}
    assert values.keys() <= known
    return read_settings(values, root=Path("/nowhere"), environment=environment or {})


def contexts(environment: dict[str, str] | None = None, /, **given: object) -> dict[str, str]:
    attachment = settings(environment, **({"provider": "kubeconfig"} | given)).attachment
    assert attachment is not None
    return {cluster: context.name for cluster, context in attachment.contexts.items()}


STRAY = {"KUBECONFIG": "/nowhere/config", "CTX_CLUSTER1": "prod-1", "CTX_CLUSTER2": "prod-2"}


def test_stray_variables_never_choose_clusters() -> None:
    chosen = settings(STRAY)
    assert (chosen.provider, chosen.attachment, chosen.installs) == ("lab", None, True)
    assert (chosen.may_disrupt, chosen.may_make_credentials) == (True, True)


def test_a_kubeconfig_is_verified_as_it_is_and_nothing_is_allowed(config: Path) -> None:
    chosen = settings(provider="kubeconfig")
    assert (chosen.provider, chosen.installs) == ("kubeconfig", False)
    assert (chosen.may_disrupt, chosen.may_make_credentials) == (False, False)
    assert chosen.attachment is not None
    assert (chosen.attachment.files, chosen.attachment.source) == ((config,), "~/.kube/config")
    allowed = settings(provider="kubeconfig", allow_disruptive=True, allow_credentials=True)
    assert (allowed.may_disrupt, allowed.may_make_credentials) == (True, True)


@pytest.mark.parametrize("given", [{"context": ["cluster1=a"]}, {"cluster2_context": "b"}, {"kubeconfig": "config"}])
def test_naming_a_cluster_implies_the_provider(
    config: Path, given: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    assert settings(**given).provider == "kubeconfig"
    with pytest.raises(BadInput, match=r"^--[a-z0-9-]+ with --provider=lab: it applies to existing clusters only"):
        settings(provider="lab", **given)


def test_an_image_alone_does_not_choose_clusters() -> None:
    with pytest.raises(BadInput, match="--app-image with --provider=lab"):
        settings(app_image="envoy:1")


def test_installing_on_a_kubeconfig_must_be_asked_for_and_allows_nothing_else(config: Path, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("hub: registry.example/istio\n")
    chosen = settings(provider="kubeconfig", mesh="install", istio_values=str(tmp_path / "values.yaml"))
    assert (chosen.installs, chosen.may_disrupt, chosen.may_make_credentials) == (True, False, False)
    assert chosen.attachment is not None
    assert chosen.attachment.istio_values == {"hub": "registry.example/istio"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "while parsing a flow node"),
        ("just words", "not a YAML mapping\n  repair: write it as the spec of an IstioOperator"),
        (None, "no such file"),
    ],
)
def test_values_that_are_none_are_refused(config: Path, tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "values.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput) as caught:
        settings(provider="kubeconfig", mesh="install", istio_values=str(path))
    assert str(caught.value).startswith(f"--istio-values={path}: {told}")


def test_values_are_refused_where_nothing_is_installed_with_them(config: Path) -> None:
    for given in ({"provider": "lab"}, {"provider": "kubeconfig"}, {"provider": "kubeconfig", "mesh": "existing"}):
        with pytest.raises(BadInput, match=r"^--istio-values with --provider="):
            settings(istio_values="values.yaml", **given)


def test_contexts_by_place_by_name_and_by_variable(config: Path) -> None:
    assert contexts() == {}
    assert contexts({"CTX_CLUSTER1": "a", "CTX_CLUSTER2": "b"}) == {ONE: "a", TWO: "b"}
    assert contexts({"CTX_CLUSTER1": "a", "CTX_CLUSTER2": ""}, cluster1_context="x") == {ONE: "x"}
    assert contexts({"CTX_CLUSTER2": "b"}, context=["cluster1=arn:x=y/z"]) == {ONE: "arn:x=y/z", TWO: "b"}


def test_places_follow_the_topology_whatever_its_clusters_are_called(config: Path, tmp_path: Path) -> None:
    file = str(three_clusters(tmp_path).source)
    named = contexts({"CTX_CLUSTER3": "c"}, topology=file, cluster1_context="a", context=["west=b"])
    assert named == {"east": "a", "west": "b", "edge": "c"}


def with_contexts(folder: Path) -> str:
    """The file of a topology that names the contexts of two of its three clusters."""
    path = Path(three_clusters(folder).source)
    text = path.read_text().replace("{name: east,", "{name: east, context: prod-e,")
    path.write_text(text.replace("{name: west,", "{name: west, context: prod-w,"))
    return str(path)


def test_a_topology_may_name_its_contexts_and_so_the_provider(config: Path, tmp_path: Path) -> None:
    file = with_contexts(tmp_path)
    assert settings(topology=file).provider == "kubeconfig"
    assert settings(topology=file, provider="lab").attachment is None, "a likeness of it"
    assert contexts(topology=file) == {"east": "prod-e", "west": "prod-w"}
    assert contexts(topology=file, cluster1_context="mine") == {"east": "mine", "west": "prod-w"}
    assert contexts({"CTX_CLUSTER1": "prod-e", "CTX_CLUSTER3": "c"}, topology=file) == {
        "east": "prod-e",
        "west": "prod-w",
        "edge": "c",
    }


def test_a_stray_variable_against_the_file_is_refused(config: Path, tmp_path: Path) -> None:
    file = with_contexts(tmp_path)
    with pytest.raises(BadInput) as caught:
        contexts({"CTX_CLUSTER1": "other"}, topology=file)
    assert str(caught.value) == (
        f"CTX_CLUSTER1=other: context of east in {file} already names the context of east\n  repair: use one of the two"
    )


def test_contexts_without_a_cluster_are_those_of_the_places_in_turn(config: Path) -> None:
    assert contexts(context=["b", "a"]) == {"cluster1": "b", "cluster2": "a"}
    assert contexts({"CTX_CLUSTER1": "stray"}, context=["b", "cluster2=a"]) == {"cluster1": "b", "cluster2": "a"}
    with pytest.raises(BadInput, match="--context=c: the topology has 2 clusters"):
        contexts(context=["a", "b", "c"])
    with pytest.raises(BadInput, match="--context=a: --context=cluster1=b already names the context of cluster1"):
        contexts(context=["cluster1=b", "a"])


def test_without_a_topology_clusters_are_called_by_their_places(config: Path) -> None:
    given = {"cluster1_context": "a", "context": ["west=b"]}
    found = settings({"CTX_CLUSTER2": "c"}, topology=None, **given).attachment
    assert found is not None
    assert {name: context.name for name, context in found.contexts.items()} == {
        "west": "b",
        "cluster1": "a",
        "cluster2": "c",
    }


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"context": ["=east"]}, "--context==east: the cluster's name is missing"),
        ({"context": ["cluster1="]}, "--context=cluster1=: the cluster's name is missing"),
        ({"context": ["east=a"]}, "--context=east=a: the topology has no cluster east\n  repair: use one of cluster1"),
        ({"cluster1_context": ""}, "--cluster1-context=: the context is empty"),
        (
            {"context": ["cluster1=a"], "cluster1_context": "b"},
            "--cluster1-context=b: --context=cluster1=a already names the context of cluster1",
        ),
        (
            {"context": ["cluster1=a", "cluster2=a"]},
            "--context=cluster2=a: --context=cluster1=a has the same context",
        ),
        (
            {"image_pull_secret": "pull"},
            "--image-pull-secret=pull: not the name of a secret\n  repair: write it as NAM",
        ),
        ({"image_pull_secret": "a/b/c"}, "--image-pull-secret=a/b/c: not the name of a secret"),
        ({"istioctl": "/nowhere/istioctl"}, "--istioctl=/nowhere/istioctl: no such file"),
        ({"kubeconfig": "/nowhere/config"}, "--kubeconfig=/nowhere/config: no such file"),
        ({"kubeconfig": ""}, "--kubeconfig=: none of its files exists"),
    ],
)
def test_what_cannot_be_meant_is_refused(config: Path, given: dict[str, object], told: str) -> None:
    with pytest.raises(BadInput) as caught:
        settings(provider="kubeconfig", **given)
    assert str(caught.value).startswith(told)


def test_kubeconfigs_are_found_as_kubectl_finds_them(config: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.write_text("contexts: []\n")
    gone = tmp_path / "gone"
    some = settings({"KUBECONFIG": f"{gone}:{second}::{config}"}, provider="kubeconfig").attachment
    assert some is not None
    assert some.files == (second, config)
    assert str(some.kubeconfig) == f"{second}:{config}"
    given = settings({"KUBECONFIG": str(gone)}, kubeconfig="~/second").attachment
    assert given is not None
    assert given.files == (second,)
    with pytest.raises(BadInput, match=f"KUBECONFIG={gone}: no such file"):
        settings({"KUBECONFIG": str(gone)}, provider="kubeconfig")
    with pytest.raises(BadInput, match=f"second:{gone}: {gone}: no such file\n"):
        settings(kubeconfig=f"{second}:{gone}")


def test_a_failure_says_how_to_ask_the_same_clusters_again(config: Path) -> None:
    assert settings().again == "--keep"
    assert settings({"CTX_CLUSTER1": "a b"}, provider="kubeconfig").again == (
        "--provider=kubeconfig '--context=cluster1=a b'"
    )
    assert settings(kubeconfig="~/.kube/config").again == "--provider=kubeconfig '--kubeconfig=~/.kube/config'"
