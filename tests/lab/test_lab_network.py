"""What may pass in a lab, and what may not: proven with packets, each refusal beside something that is let through."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from pyroute2 import IPRoute, NetNS

from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.clients.kubernetes.rollout import until
from meshproof.core.errors import Broken, NotReady
from meshproof.core.waiting import NotYet, eventually
from meshproof.providers.lab.api import Lab, request_daemon
from meshproof.providers.lab.build.images import CLIENT
from meshproof.providers.lab.node.network import NAMESPACES

pytestmark = pytest.mark.lab


def kube_of(lab: Lab, index: int) -> Kube:
    access = lab.clusters[index]
    return Kube(access.kubeconfig, access.context, name=access.name)


def client_pod(name: str) -> Json:
    container = {"name": "client", "image": CLIENT, "command": ["nc", "-ll", "-p", "7000", "-e", "/bin/echo", name]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }


def running_pod(pod: Json | None) -> str | None:
    status = (pod or {}).get("status", {})
    return str(status["podIP"]) if status.get("phase") == "Running" else None


@pytest.fixture(scope="module")
def pods(lab: Lab) -> Iterator[tuple[str, str]]:
    """Addresses of one pod in each cluster; each listens on port 7000 and answers with its name."""
    kubes = [kube_of(lab, i) for i in (0, 1)]
    for kube in kubes:
        with suppress(Broken):
            eventually(partial(account, kube), what="default service account", timeout_s=20)
        kube.create(client_pod("probe"))
    first, second = (
        until(kube, "Pod", "probe", "default", running_pod, what="probe pod", timeout_s=30) for kube in kubes
    )
    yield first, second
    for kube in kubes:
        kube.delete("Pod", "probe", "default", grace_s=0)


def account(kube: Kube) -> None:
    if kube.find("ServiceAccount", "default", "default") is None:
        raise NotYet("not there")


def reaches(kube: Kube, address: str) -> bool:
    argv = ["sh", "-c", f"nc -w 2 {address} 7000 </dev/null"]
    return kube.exec("default", "probe", argv, timeout_s=15).stdout.startswith("probe")


def test_pods_of_one_network_reach_each_other_and_of_two_do_not(lab: Lab, pods: tuple[str, str]) -> None:
    east, west = (c.name for c in lab.clusters)
    for groups, expected in (([[east, west]], True), ([[east], [west]], False), ([[east, west]], True)):
        request_daemon(lab.folder, {"do": "connect", "groups": groups})
        assert reaches(kube_of(lab, 0), pods[0]), "positive control: a pod reaches its own cluster's pods"
        assert reaches(kube_of(lab, 0), pods[1]) is expected
        assert reaches(kube_of(lab, 1), pods[0]) is expected
    request_daemon(lab.folder, {"do": "connect", "groups": []})


def test_names_of_the_cluster_are_answered_and_others_are_not(lab: Lab, pods: tuple[str, str]) -> None:
    assert pods
    kube = kube_of(lab, 0)
    inside = kube.exec("default", "probe", ["nslookup", "kubernetes.default.svc.cluster.local"], timeout_s=15)
    assert str(lab.spec.plan.nodes[0].kubernetes_service) in inside.stdout
    outside = kube.exec("default", "probe", ["nslookup", "example.com"], timeout_s=15)
    assert outside.exit_code != 0


def test_nothing_leaves_the_lab(lab: Lab) -> None:
    plan = lab.spec.plan
    with NetNS(plan.router_namespace) as router:
        defaults = [r for r in router.get_routes(family=socket.AF_INET) if r["dst_len"] == 0]
    assert defaults == [], "the router has no way out"
    for node in plan.nodes:
        init = request_daemon(lab.folder, {"do": "status"})["processes"][f"{node.cluster}/kubelet"]
        child = Path(f"/proc/{init}/task/{init}/children").read_text().strip()
        resolv = subprocess.run(
            ["nsenter", "-t", child, "-m", "cat", "/etc/resolv.conf"], capture_output=True, text=True, timeout=30
        )
        assert "nameserver" not in resolv.stdout
        # TEST-NET-3 (RFC 5737) belongs to nobody: the packet must die in the router, and say so at once.
        enter = ["nsenter", f"--net={NAMESPACES / plan.node_namespace(node)}"]
        tried = subprocess.run(
            [*enter, "busybox", "nc", "-w", "2", "203.0.113.1", "80"], capture_output=True, text=True, timeout=30
        )
        assert tried.returncode != 0
        assert "unreachable" in tried.stderr.lower()


def test_other_machines_cannot_reach_the_lab(lab: Lab) -> None:
    """A machine behind this host would come with another source address; so does a socket bound to one."""
    plan = lab.spec.plan
    target = (str(plan.nodes[0].address), 6443)
    socket.create_connection(target, timeout=3).close()
    with IPRoute() as host:
        addresses = [str(a.get_attr("IFA_ADDRESS")) for a in host.get_addr(family=socket.AF_INET)]
    foreign = [a for a in addresses if not a.startswith("127.") and a != str(plan.host_address)]
    if not foreign:
        pytest.skip("this machine has no other address to come from")
    with pytest.raises(TimeoutError):
        socket.create_connection(target, timeout=2, source_address=(foreign[0], 0))


def load_balancer(name: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "LoadBalancer", "selector": {"app": "none"}, "ports": [{"name": "http", "port": 80}]},
    }


def address_of(service: Json | None) -> str | None:
    ingress = (service or {}).get("status", {}).get("loadBalancer", {}).get("ingress")
    return str(ingress[0]["ip"]) if ingress else None


def test_load_balancer_addresses_outlive_an_api_server_restart(lab: Lab) -> None:
    kube = kube_of(lab, 0)
    try:
        kube.create(load_balancer("first"))
        first = until(kube, "Service", "first", "default", address_of, what="address of first", timeout_s=10)
        lab.restart("east/kube-apiserver")

        def answers() -> None:
            try:
                kube.request("GET", "/readyz", timeout_s=2)
            except NotReady as problem:
                raise NotYet(str(problem)) from problem
            except Broken as problem:
                raise NotYet(str(problem)) from problem

        eventually(answers, what="API server after its restart", timeout_s=60)
        kube.create(load_balancer("second"))
        second = until(kube, "Service", "second", "default", address_of, what="address of second", timeout_s=30)
        kube.delete("Service", "first", "default")
        kube.create(load_balancer("first"))
        again = until(kube, "Service", "first", "default", address_of, what="address of first, again", timeout_s=30)
        assert first == again
        assert first != second
        assert not lab.problems(), "the load balancer must outlive the restart"
    finally:
        for name in ("first", "second"):
            kube.delete("Service", name, "default")
