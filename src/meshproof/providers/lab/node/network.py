"""The lab's network: a router namespace with a link to this host and to each node, and its packet filter.

No packet leaves the lab: the router has no default route, and drops everything that does not come from this host or
from a node. Everything here is created by the daemon and removed by `remove`, which also handles leftovers.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import IPv4Network
from itertools import permutations
from pathlib import Path
from socket import AF_INET

from pyroute2 import IPRoute, NetNS, netns
from pyroute2.netlink.exceptions import NetlinkError

from meshproof.clients.process import run
from meshproof.core.errors import Broken
from meshproof.providers.lab.address_plan import HostRoute, LabPlan, NodePlan
from meshproof.providers.lab.build.debian import program

NAMESPACES = Path("/run/netns")


def host_routes() -> tuple[HostRoute, ...]:
    """The IPv4 routes of this machine's main table, default route included (prefix length 0)."""
    found: list[HostRoute] = []
    with IPRoute() as host:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in host.get_links()}
        for route in host.get_routes(family=AF_INET, table=254):
            destination = route.get_attr("RTA_DST") or "0.0.0.0"
            network = IPv4Network(f"{destination}/{route['dst_len']}", strict=False)
            found.append(HostRoute(network=network, device=names.get(route.get_attr("RTA_OIF"), "?")))
    return tuple(found)


def build(plan: LabPlan) -> None:
    """Create the namespaces, links, addresses and routes of a lab. Raises `Broken` for errors of the kernel."""
    try:
        for name in (plan.router_namespace, *(plan.node_namespace(n) for n in plan.nodes)):
            netns.create(name)
        with IPRoute() as host, NetNS(plan.router_namespace) as router:
            _host_link(host, router, plan)
            for node in plan.nodes:
                _node_link(router, plan, node)
    except NetlinkError as problem:
        raise Broken(f"network of lab {plan.lab}", str(problem), "see `meshproof doctor`") from problem
    _set(plan.router_namespace, "net/ipv4/ip_forward")
    for node in plan.nodes:
        _set(plan.node_namespace(node), "net/ipv4/ip_forward")
        _set(plan.node_namespace(node), "net/ipv4/conf/all/route_localnet")
        # Short timeout for unanswered connections: a later one from the same port would use the same stale entry.
        _set(plan.node_namespace(node), "net/netfilter/nf_conntrack_tcp_timeout_syn_sent", 5)
    _filter(plan)
    for node in plan.nodes:
        _refuse_unused_addresses(plan, node)


def _up(ip: IPRoute, name: str, address: str, length: int) -> int:
    index = int(ip.link_lookup(ifname=name)[0])
    ip.addr("add", index=index, address=address, prefixlen=length)
    ip.link("set", index=index, state="up")
    return index


def _host_link(host: IPRoute, router: NetNS, plan: LabPlan) -> None:
    host.link("add", ifname=plan.host_link, kind="veth", peer={"ifname": "host", "net_ns_fd": plan.router_namespace})
    index = _up(host, plan.host_link, str(plan.host_address), 24)
    router.link("set", index=router.link_lookup(ifname="lo")[0], state="up")
    _up(router, "host", str(plan.router_address), 24)
    host.route("add", dst=str(plan.range), gateway=str(plan.router_address), oif=index)


def _node_link(router: NetNS, plan: LabPlan, node: NodePlan) -> None:
    link = f"node{node.index}"
    namespace = plan.node_namespace(node)
    router.link("add", ifname=link, kind="veth", peer={"ifname": "eth0", "net_ns_fd": namespace})
    _up(router, link, str(node.gateway), 24)
    with NetNS(namespace) as inside:
        inside.link("set", index=inside.link_lookup(ifname="lo")[0], state="up")
        _up(inside, "eth0", str(node.address), 24)
        inside.route("add", dst="default", gateway=str(node.gateway))
    router.route("add", dst=str(node.pool), gateway=str(node.address))


def _set(namespace: str, setting: str, value: int = 1) -> None:
    """Set a network sysctl of a namespace, by default to 1."""
    run(["nsenter", f"--net={NAMESPACES / namespace}", "sh", "-c", f"echo {value} > /proc/sys/{setting}"], timeout_s=10)


def _filter(plan: LabPlan) -> None:
    """In the router: admit only the host itself from its link, and only responses towards it. Other machines are cut
    off."""
    rules = [
        "*filter",
        ":INPUT ACCEPT [0:0]",
        ":FORWARD ACCEPT [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        f"-A INPUT -i host ! -s {plan.host_address} -j DROP",
        f"-A FORWARD -i host ! -s {plan.host_address} -j DROP",
        f"-A FORWARD -o host ! -d {plan.host_address} -j DROP",
        "COMMIT",
    ]
    _restore(plan.router_namespace, rules)


def _refuse_unused_addresses(plan: LabPlan, node: NodePlan) -> None:
    """Reject connections to unused LoadBalancer addresses and ports.

    kube-proxy has rewritten the destination of all others by then. Without this the packets loop between
    node and router, and a probe of a closed port times out.
    """
    reject = f"-A FORWARD -d {node.pool} -p tcp -j REJECT --reject-with tcp-reset"
    _restore(plan.node_namespace(node), ["*filter", reject, "COMMIT"], "--noflush")


def _restore(namespace: str, rules: Sequence[str], *extra: str) -> None:
    tool = str(program("iptables-restore"))
    run(["nsenter", f"--net={NAMESPACES / namespace}", tool, "-w", *extra], timeout_s=30, stdin="\n".join(rules) + "\n")


MASQUERADE = "MESHPROOF-EGRESS"


def connect(plan: LabPlan, groups: Iterable[Sequence[NodePlan]]) -> None:
    """Connect pods of nodes in the same group directly, and no others.

    Each group is one network of a topology. Pods' packets leave their node with the node's address (others have no
    route to a pod), except towards pods of their own network.
    """
    peers: dict[str, set[NodePlan]] = {node.cluster: set() for node in plan.nodes}
    for group in groups:
        for a, b in permutations(group, 2):
            peers[a.cluster].add(b)
    linked = {node.cluster for node in plan.nodes if peers[node.cluster]}
    with NetNS(plan.router_namespace) as router:
        for node in plan.nodes:
            _route(router, node.pods, str(node.address) if node.cluster in linked else None)
    for node in plan.nodes:
        namespace = plan.node_namespace(node)
        with NetNS(namespace) as inside:
            for other in plan.nodes:
                if other is not node:
                    _route(inside, other.pods, str(node.gateway) if other in peers[node.cluster] else "unreachable")
        inward = sorted(str(p.pods) for p in peers[node.cluster])
        _restore(
            namespace,
            [
                "*nat",
                f":{MASQUERADE} - [0:0]",
                *(f"-A {MASQUERADE} -d {pods} -j RETURN" for pods in (str(node.pods), *inward)),
                f"-A {MASQUERADE} -o eth0 -j MASQUERADE",
                "COMMIT",
            ],
            "--noflush",
        )
        _hook_once(namespace, node)


FAULTS = "MESHPROOF-FAULTS"


def block(plan: LabPlan, client: NodePlan, server: NodePlan, ports: Sequence[int]) -> None:
    """Drop packets from one node to the other in the router: to TCP ports of its gateways, or without ports to its
    pods.

    Pods have their node's address, or their own towards pods of their own network. Replaces earlier
    blocks.
    """
    targets = [f"-d {server.pool} -p tcp --dport {port}" for port in ports] or [f"-d {server.pods}"]
    sources = (f"{client.address}/32", str(client.pods))
    _drop(plan, [f"-s {source} {target}" for source in sources for target in targets])


def cut(plan: LabPlan, a: NodePlan, b: NodePlan, *, one_way: bool) -> None:
    """Drop all packets between two nodes in the router: of nodes, gateways and pods. Replaces earlier blocks.

    `one_way` acts like a firewall: it drops packets of `a` in connections opened by `a`; its responses in
    those opened by `b` pass (iptables-extensions(8), conntrack: --ctdir).
    """

    def places(node: NodePlan) -> tuple[str, ...]:
        return (f"{node.address}/32", str(node.pool), str(node.pods))

    there = [f"-s {source} -d {target}" for source in places(a) for target in places(b)]
    back = [f"-s {source} -d {target}" for source in places(b) for target in places(a)]
    _drop(plan, [f"-m conntrack --ctdir ORIGINAL {rule}" for rule in there] if one_way else there + back)


def _drop(plan: LabPlan, matches: Sequence[str]) -> None:
    unblock(plan)
    rules = [f"-A {FAULTS} {match} -j DROP" for match in matches]
    _restore(
        plan.router_namespace, ["*filter", f":{FAULTS} - [0:0]", *rules, f"-I FORWARD -j {FAULTS}", "COMMIT"], "-n"
    )


def unblock(plan: LabPlan) -> None:
    """Undo `block` and `cut`. Safe without them."""
    enter = ["nsenter", f"--net={NAMESPACES / plan.router_namespace}", str(program("iptables")), "-w"]
    for rule in (["-D", "FORWARD", "-j", FAULTS], ["-F", FAULTS], ["-X", FAULTS]):
        subprocess.run([*enter, *rule], capture_output=True, stdin=subprocess.DEVNULL)


def forget(plan: LabPlan, node: NodePlan) -> None:
    """Remove what a machine loses when its power fails: the links of its pods, and tracked connections.

    Its network namespace persists here. Old entries would direct new connections from the same ports to addresses
    that other pods have now.
    """
    namespace = plan.node_namespace(node)
    with NetNS(namespace) as inside:
        for link in inside.get_links():
            if str(link.get_attr("IFLA_IFNAME")).startswith("veth"):
                with suppress(NetlinkError):  # it was being removed
                    inside.link("del", index=link["index"])
    run(["nsenter", f"--net={NAMESPACES / namespace}", program("conntrack"), "-F"], timeout_s=10)


def _hook_once(namespace: str, node: NodePlan) -> None:
    rule = f"-s {node.pods} -j {MASQUERADE}"
    tool = program("iptables")
    enter = f"--net={NAMESPACES / namespace}"
    there = subprocess.run(
        ["nsenter", enter, tool, "-w", "-t", "nat", "-C", "POSTROUTING", *rule.split()], capture_output=True
    )
    if there.returncode:
        run(["nsenter", enter, tool, "-w", "-t", "nat", "-A", "POSTROUTING", *rule.split()], timeout_s=30)


def _route(ip: NetNS, destination: IPv4Network, via: str | None) -> None:
    """Route `destination` to a gateway, make it `unreachable`, or remove its route (None)."""
    with suppress(NetlinkError):
        ip.route("del", dst=str(destination))
    if via == "unreachable":
        ip.route("add", dst=str(destination), type="unreachable")
    elif via is not None:
        ip.route("add", dst=str(destination), gateway=via)


def lab_namespaces(lab: str) -> tuple[str, ...]:
    """The network namespaces of a lab, identified by their names."""
    prefix = f"meshproof-{lab}-"
    return tuple(sorted(n for n in netns.listnetns() if n.startswith(prefix)))


def remove(lab: str, host_link: str | None) -> None:
    """Remove a lab's namespaces and the host's link with its routes. Safe on leftovers and if nothing exists."""
    if host_link:
        with IPRoute() as host, suppress(NetlinkError):
            for index in host.link_lookup(ifname=host_link):
                host.link("del", index=index)
    for name in lab_namespaces(lab):
        with suppress(OSError):
            netns.remove(name)
    mounted = f" {NAMESPACES} " in Path("/proc/self/mountinfo").read_text()
    if mounted and not any(NAMESPACES.iterdir()):
        # Creating a named namespace mounts this folder (like `ip netns add`); unmount it when empty.
        run(["umount", NAMESPACES], timeout_s=10)
