"""The image of the mesh's own proxies: probes run from it if it has the programs that they need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.core.concurrency import together
from meshproof.core.errors import NotReady
from meshproof.core.names import PROXY
from meshproof.core.versions import Version

PROGRAMS: Final = {"client": ("curl", "openssl", "seq", "sleep"), "app": ("envoy",)}
"""What a probe runs, by purpose; a client also needs a shell."""
OLDEST_CURL: Final = Version(7, 84)

_GATEWAYS: Final = ("istio", "gateway.networking.k8s.io/gateway-name")
"""Labels of gateway pods: of Istio's charts and operator, and of those that istiod creates for the Gateway API."""
_SIDECARS: Final = "security.istio.io/tlsMode=istio"
_MOST_SIDECARS: Final = "20"
_MOST_IMAGES: Final = 3
_NO_SUCH_PROGRAM: Final = re.compile(r"executable file not found|no such file or directory")
_SHELL: Final = (
    f"for p in {' '.join(PROGRAMS['client'])}; do command -v $p >/dev/null || echo lacks $p; done; curl --version"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyImage:
    """An image that proxies of the mesh run from, and what a purpose's probe would lack in it; `place` is a pod."""

    image: str
    place: str
    lacks: dict[str, tuple[str, ...]]
    curl: str = ""

    def fits(self, purposes: Iterable[str]) -> bool:
        return not any(self.lacks.get(purpose) for purpose in purposes)

    def reason(self, purposes: Sequence[str]) -> str:
        """Why it is taken for these purposes."""
        there = ["a shell", "openssl", f"curl {self.curl}"] if "client" in purposes else []
        there += ["envoy"] if "app" in purposes else []
        has = " and ".join([", ".join(there[:-1]), there[-1]] if there[1:] else there)
        what = "the client and app probes" if len(purposes) > 1 else f"the {purposes[0]} probes"
        return f"image of {what}: {self.image}, the mesh's own proxy image, since it has {has}"

    def refusal(self) -> str:
        """Why it is not taken, in a few words."""
        lacking = [program for programs in self.lacks.values() for program in programs]
        kind = " (a distroless image)" if "sh" in lacking else ""
        return f"the mesh's proxy image {self.image} has no {' and no '.join(lacking)}{kind}, seen in {self.place}"


def proxy_images(kubes: Sequence[Kube], purposes: Sequence[str]) -> list[ProxyImage]:
    """The images of running proxies, those of gateways first: up to the first one that fits these purposes."""
    found: list[ProxyImage] = []
    for kube, pod in _one_pod_of_each_image(kubes):
        found.append(_examined(kube, pod, purposes))
        if found[-1].fits(purposes) or len(found) == _MOST_IMAGES:
            break
    return found


def _one_pod_of_each_image(kubes: Sequence[Kube]) -> list[tuple[Kube, Json]]:
    """An image that all clusters run is one that all of them can pull, so it comes first."""
    pods = [(kube, pod) for kube, there in zip(kubes, together(_proxy_pods, kubes), strict=True) for pod in there]
    clusters: dict[str, set[str]] = {}
    first: dict[str, tuple[Kube, Json]] = {}
    for kube, pod in pods:
        image = _proxy_image(pod)
        clusters.setdefault(image, set()).add(kube.context)
        first.setdefault(image, (kube, pod))
    return [first[image] for image in sorted(first, key=lambda image: -len(clusters[image]))]


def _proxy_pods(kube: Kube) -> list[Json]:
    """Running pods with a proxy: gateways, or some of those with a sidecar where there is no gateway."""
    for label in _GATEWAYS:
        if pods := [pod for pod in kube.list("Pod", labels=label) if _has_running_proxy(pod)]:
            return pods
    some = kube.get("/api/v1/pods", labelSelector=_SIDECARS, limit=_MOST_SIDECARS).get("items") or []
    return [pod for pod in some if _has_running_proxy(pod)]


def _has_running_proxy(pod: Json) -> bool:
    status = pod.get("status") or {}
    states = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    runs = any(state["name"] == PROXY and "running" in (state.get("state") or {}) for state in states)
    return runs and "deletionTimestamp" not in pod["metadata"] and bool(_proxy_image(pod))


def _proxy_image(pod: Json) -> str:
    return next(_images(pod), "")


def _images(pod: Json) -> Iterator[str]:
    """Also of a native sidecar, which is an init container."""
    spec = pod["spec"]
    for container in (*(spec.get("containers") or []), *(spec.get("initContainers") or [])):
        if container["name"] == PROXY and container.get("image"):
            yield str(container["image"])


def _examined(kube: Kube, pod: Json, purposes: Sequence[str]) -> ProxyImage:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    lacks: dict[str, tuple[str, ...]] = {}
    curl = ""
    if "client" in purposes:
        lacks["client"], curl = _for_clients(kube, namespace, name)
    if "app" in purposes:
        there = _run(kube, namespace, name, ["envoy", "--version"]) is not None
        lacks["app"] = () if there else PROGRAMS["app"]
    return ProxyImage(image=_proxy_image(pod), place=f"{kube.name} {namespace}/{name}", lacks=lacks, curl=curl)


def _for_clients(kube: Kube, namespace: str, name: str) -> tuple[tuple[str, ...], str]:
    """What clients would lack, and the version of curl."""
    output = _run(kube, namespace, name, ["sh", "-c", _SHELL])
    if output is None:
        return ("sh",), ""
    lacks = [line.removeprefix("lacks ") for line in output.splitlines() if line.startswith("lacks ")]
    number = re.search(r"^curl (\S+)", output, re.MULTILINE)
    version = Version.parse(number[1]) if number else None
    if "curl" not in lacks and (version is None or version < OLDEST_CURL):
        lacks.append(f"curl of {OLDEST_CURL} or newer")
    return tuple(lacks), number[1] if number else ""


def _run(kube: Kube, namespace: str, name: str, argv: Sequence[str]) -> str | None:
    """What a program printed; None if there is no such program in the container."""
    try:
        done = kube.exec(namespace, name, argv, container=PROXY)
    except NotReady as problem:
        if _NO_SUCH_PROGRAM.search(problem.reason):
            return None
        raise
    return None if done.exit_code in (126, 127) and not done.stdout else done.stdout
