"""Probes run from the image of the mesh's own proxies, if it has what they need: what is examined, and what is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from meshproof.clients.kubernetes.client import ExecResult, Json, Kube
from meshproof.core.errors import BadInput, NotReady
from meshproof.providers.contexts import Attachment
from meshproof.providers.kubeconfig import probe_images

CURL = "curl 8.5.0 (x86_64-pc-linux-gnu) libcurl/8.5.0\n"
BOTH = ("client", "app")


def proxy(name: str, image: str, *, where: str = "containers", state: str = "running", **labels: str) -> Json:
    """A pod with a proxy of that image."""
    statuses = "initContainerStatuses" if where == "initContainers" else "containerStatuses"
    return {
        "metadata": {"name": name, "namespace": "edge", "labels": labels},
        "spec": {where: [{"name": "istio-proxy", "image": image}]},
        "status": {statuses: [{"name": "istio-proxy", "state": {state: {}}}]},
    }


class Cluster:
    """Its pods by the selector that finds them, and what runs in their images: `sh` prints `printed`."""

    def __init__(self, name: str, pods: Mapping[str, Sequence[Json]], printed: Mapping[str, str | None]) -> None:
        self.name = self.context = name
        self.pods, self.printed = pods, printed
        self.run: list[tuple[str, ...]] = []

    def list(self, kind: str, namespace: str | None = None, *, labels: str = "") -> list[Json]:
        assert kind == "Pod"
        return [*self.pods.get(labels, ())] if namespace is None else []

    def get(self, path: str, **query: str) -> Json:
        assert (path, query["limit"]) == ("/api/v1/pods", "20")
        return {"items": [*self.pods.get(query["labelSelector"], ())]}

    def exec(self, namespace: str, pod: str, argv: Sequence[str], *, container: str) -> ExecResult:
        assert (namespace, container) == ("edge", "istio-proxy")
        self.run.append((pod, argv[0]))
        printed = self.printed.get(f"{pod} {argv[0]}", self.printed.get(pod, CURL))
        if printed is None:
            words = f'OCI runtime exec failed: exec: "{argv[0]}": executable file not found in $PATH'
            raise NotReady("exec", f"did not run to its end: {words}", "check that the pod runs")
        return ExecResult(stdout=printed, stderr="", exit_code=0)


def chosen(*clusters: Cluster, images: dict[str, str] | None = None) -> tuple[Mapping[str, str], tuple[str, ...]]:
    attachment = Attachment(files=(Path("k"),), source="k", contexts={}, istioctl=None, images=images or {})
    found = probe_images(attachment, cast("list[Kube]", cast("Any", list(clusters))))
    return found.images, found.reasons


def test_the_image_that_gateways_run_from_is_taken_for_both_and_why_is_said() -> None:
    east = Cluster("east", {"istio": [proxy("ingress", "hub/proxyv2:1.31.0")]}, {})
    images, reasons = chosen(east)
    assert images == dict.fromkeys(BOTH, "hub/proxyv2:1.31.0")
    assert reasons == (
        "image of the client and app probes: hub/proxyv2:1.31.0, the mesh's own proxy image, since it has a shell, "
        "openssl, curl 8.5.0 and envoy",
    )
    assert east.run == [("ingress", "sh"), ("ingress", "envoy")]


def test_what_an_option_names_is_not_looked_for() -> None:
    east = Cluster("east", {"istio": [proxy("ingress", "proxyv2")]}, {})
    assert chosen(east, images={"client": "c", "app": "a"}) == ({"client": "c", "app": "a"}, ())
    images, (reason,) = chosen(east, images={"client": "mine:1"})
    assert images == {"client": "mine:1", "app": "proxyv2"}
    assert reason == "image of the app probes: proxyv2, the mesh's own proxy image, since it has envoy"
    assert east.run == [("ingress", "envoy")]


@pytest.mark.parametrize("where", ["containers", "initContainers"])
def test_where_there_is_no_gateway_a_sidecar_will_do(where: str) -> None:
    pods = {"security.istio.io/tlsMode=istio": [proxy("old", "x", state="waiting"), proxy("app", "p", where=where)]}
    assert chosen(Cluster("east", pods, {}))[0]["client"] == "p"


def test_an_image_that_all_clusters_run_comes_first() -> None:
    east = Cluster("east", {"istio": [proxy("a", "proxy:1.30"), proxy("b", "proxy:1.31")]}, {})
    west = Cluster("west", {"istio": [proxy("c", "proxy:1.31")]}, {})
    assert chosen(east, west)[0]["app"] == "proxy:1.31"


def test_an_image_without_a_shell_is_passed_over() -> None:
    pods = [proxy("a", "proxy:1.31-distroless"), proxy("b", "proxy:1.31")]
    assert chosen(Cluster("east", {"istio": pods}, {"a sh": None}))[0]["client"] == "proxy:1.31"


@pytest.mark.parametrize(
    ("printed", "lacking", "flags"),
    [
        ({"a sh": None}, "sh (a distroless image)", "--client-image=IMAGE"),
        ({"a sh": "lacks openssl\n" + CURL}, "openssl", "--client-image=IMAGE"),
        ({"a sh": "lacks curl\n"}, "curl", "--client-image=IMAGE"),
        ({"a sh": "curl 7.68.0 (x86_64)\n"}, "curl of 7.84 or newer", "--client-image=IMAGE"),
        ({"a envoy": None}, "envoy", "--app-image=IMAGE"),
        ({"a": None}, "sh and no envoy (a distroless image)", "--client-image=IMAGE and --app-image=IMAGE"),
    ],
)
def test_an_image_that_lacks_something_is_refused_with_what_it_lacks(
    printed: dict[str, str | None], lacking: str, flags: str
) -> None:
    with pytest.raises(BadInput) as caught:
        chosen(Cluster("east", {"istio": [proxy("a", "hub/proxyv2:x")]}, printed))
    which = " and ".join(purpose for purpose in BOTH if f"--{purpose}-image" in flags)
    assert str(caught.value) == (
        f"images of the {which} probes: no pod on these clusters has a suitable image: the mesh's proxy image "
        f"hub/proxyv2:x has no {lacking}, seen in east edge/a\n"
        f"  repair: use {flags} (pytest --help lists what must be in it)"
    )


def test_a_pod_that_cannot_be_asked_is_no_image_without_programs() -> None:
    class Silent(Cluster):
        def exec(self, *_: object, **__: object) -> ExecResult:
            raise NotReady("exec", "the connection was cut")

    with pytest.raises(NotReady, match="the connection was cut"):
        chosen(Silent("east", {"istio": [proxy("a", "p")]}, {}))
