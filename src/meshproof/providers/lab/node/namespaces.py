"""A node: network, mount, PID and UTS namespaces with its own init. Killing that init kills the whole cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from meshproof.core.errors import Broken
from meshproof.core.waiting import NotYet, eventually
from meshproof.providers.lab.address_plan import LabPlan, NodePlan
from meshproof.providers.lab.build.debian import SEARCH_PATH, program
from meshproof.providers.lab.node.network import NAMESPACES
from meshproof.providers.lab.node.supervisor import ProcessSpec, Supervisor, tail_of

_SETUP = """\
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs /run
for part in kubelet containerd cni; do
  mkdir -p /var/lib/$part {home}/$part
  mount --bind {home}/$part /var/lib/$part
done
mkdir -p /var/log/pods /var/log/containers {home}/pods {home}/containers
mount --bind {home}/pods /var/log/pods
mount --bind {home}/containers /var/log/containers
mkdir -p /run/etcd /run/lock
mount --bind {home}/resolv.conf /etc/resolv.conf
mount --bind {home}/hosts /etc/hosts
mount --make-rshared /
hostname {host}
touch {home}/ready
exec {tini} -s -- {sleep} infinity
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A started node. `home` is its folder on this host, `logs` that of its components' logs."""

    plan: NodePlan
    home: Path
    logs: Path
    init_pid: int

    def spec(self, component: str, *argv: str | Path) -> ProcessSpec:
        """A process of this node: runs in its namespaces, logs under the component's name."""
        enter = ("nsenter", "-t", str(self.init_pid), "-m", "-n", "-p", "-u", "--", "env", f"PATH={SEARCH_PATH}")
        return ProcessSpec(
            name=f"{self.plan.cluster}/{component}",
            argv=(*enter, *(str(a) for a in argv)),
            log=self.logs / f"{component}.log",
        )


def start_node(supervisor: Supervisor, lab: LabPlan, plan: NodePlan, *, home: Path, logs: Path) -> Node:
    """Create the namespaces of a node and its init. Raises `Broken` with the init's log if it does not start."""
    home.mkdir(parents=True, exist_ok=True)
    # An empty resolv.conf: else the node's processes would query this host's name servers.
    (home / "resolv.conf").write_text("# the lab has no name server outside its clusters\n")
    (home / "hosts").write_text(f"127.0.0.1 localhost\n{plan.address} {plan.host_name}\n")
    ready = home / "ready"
    ready.unlink(missing_ok=True)
    script = _SETUP.format(home=home, host=plan.host_name, tini=program("tini"), sleep=program("sleep"))
    spec = ProcessSpec(
        name=f"{plan.cluster}/init",
        argv=(
            *("nsenter", f"--net={NAMESPACES / lab.node_namespace(plan)}"),
            *("unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"),
            *("sh", "-c", script),
        ),
        log=logs / "init.log",
    )
    outer = supervisor.start(spec)

    def up() -> int:
        supervisor.poll()
        if spec.name not in supervisor.running():
            raise Broken(f"node of {plan.cluster}", f"its init exited: {tail_of(spec.log)}", "see `meshproof doctor`")
        if not ready.exists():
            raise NotYet("its mounts are not ready yet")
        children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        if not children:
            raise NotYet("no init process yet")
        return int(children[0])

    pid = eventually(up, what=f"node of {plan.cluster}", timeout_s=20, poll_s=0.1)
    return Node(plan=plan, home=home, logs=logs, init_pid=pid)
