"""How suites judge what was seen, where that is more than a comparison."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.clients.kubernetes.client import ApiError
from meshproof.core import names
from meshproof.core.deadlines import BOUNDS
from meshproof.core.errors import Broken, ClaimFailed
from meshproof.failover.autonomy import autonomy, lost_once_renewed, lost_until_end
from meshproof.failover.availability import AvailabilityMonitor, CheckResult
from meshproof.failover.capabilities import CapabilityResults
from meshproof.failover.drill import Drill
from meshproof.failover.drill_judgements import judge_capabilities, judge_gaps, must_have_been_healthy
from meshproof.failover.istiod_outage import Outage, Outages
from meshproof.failover.losses import lost
from meshproof.failover.outage_judgements import closed, still_open
from meshproof.faults.transient import TransientFault
from meshproof.gateways.paths import PathCount, counted_addresses, path_problems
from meshproof.gateways.surplus_ports import allowed_ports, harmless, port_notes, spec_problems, wire_problems
from meshproof.load.history import History, Mark, RequestOutcome
from meshproof.mesh.objects import PortFacts, ServiceFacts
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.admission import Admission, Answer, DryRun
from meshproof.probes.answers import HttpAnswer
from meshproof.probes.mtls_clients import AttemptReply
from meshproof.probes.tcp import TcpAnswer
from meshproof.probes.tls import TlsAnswer
from meshproof.workloads.short_lived_clients import ShortLived
from tests.fakes import LocalKube, mesh_of, pod, snapshot_of
from tests.test_history import request

YES = Answer(verdict=DryRun.ACCEPTED)
NO = Answer(verdict=DryRun.REFUSED, words="HTTP 400: must be non-negative")
DEAD = Answer(verdict=DryRun.REFUSED, words='HTTP 500: failed calling webhook "namespace.sidecar-injector.istio.io"')
BARE = Answer(verdict=DryRun.BARE)

WELL = Admission(pod=YES, good_config=YES, bad_config=NO, guarded=True)
DOWN = Admission(pod=DEAD, good_config=DEAD, bad_config=DEAD, guarded=True)


def outage(**changes: Any) -> Outage:
    mesh = mesh_of("multi-primary-samenet")
    defaults: dict[str, Any] = {
        "mesh": mesh,
        "victim": mesh.clusters[0],
        "drill": drill(),
        "before": {"cluster1": WELL, "cluster2": WELL},
        "during": {"cluster1": DOWN, "cluster2": WELL},
    }
    return Outage(**(defaults | changes))


def at(second: float) -> Mark:
    return Mark(monotonic_s=second, wall=second)


def drill(**changes: Any) -> Drill:
    mesh = mesh_of("multi-primary-samenet")
    defaults: dict[str, Any] = {
        "mesh": mesh,
        "snapshot": Snapshot(mesh=mesh, facts=()),
        "history": History(),
        "sources": (),
        "begin": at(0),
        "transient_fault": TransientFault(what="a fault", injected=at(10), gone=at(11), heal=at(20), back=at(22)),
        "end": at(30),
    }
    return Drill(**(defaults | changes))


def admission(base: Admission, **changes: Any) -> Admission:
    return Admission(**({f: getattr(base, f) for f in ("pod", "good_config", "bad_config", "guarded")} | changes))


def test_a_dead_control_plane_that_fails_closed_is_right_and_the_other_goes_on() -> None:
    assert closed(outage(), "cluster1") == []
    assert still_open(outage(), "cluster2") == []


def test_a_pod_without_a_sidecar_is_the_worst_and_is_named() -> None:
    seen = outage(during={"cluster1": admission(DOWN, pod=BARE)}, pods_during={"cluster1": ("waiting-1",)})
    assert closed(seen, "cluster1") == [
        "a new pod was accepted without a proxy",
        "the Deployment has pods: waiting-1",
    ]


def test_refusals_need_acceptance_before_them() -> None:
    seen = outage(before={"cluster1": admission(WELL, pod=NO, bad_config=YES)})
    assert closed(seen, "cluster1") == [
        "before the outage a pod was refused (HTTP 400: must be non-negative)",
        "before the outage invalid Istio configuration was accepted",
    ]


def test_a_primary_whose_validation_fails_open_is_reported() -> None:
    seen = outage(before={"cluster1": admission(WELL, guarded=False)})
    assert closed(seen, "cluster1") == ["its validation webhook does not fail closed (failurePolicy is not Fail)"]


def test_losses_count_in_their_own_window_and_source() -> None:
    history = History()
    for second, outcome in (
        (5, RequestOutcome.ANSWERED),
        (12, RequestOutcome.LOST),
        (13, RequestOutcome.ANSWERED),
        (25, RequestOutcome.ANSWERED),
    ):
        history.add(request(float(second), outcome, source="cluster1"))
    seen = drill(history=history)
    must_have_been_healthy(seen, ("cluster1",))
    (problem,) = lost(history, seen.down, ("cluster1",))
    assert problem.startswith("1 of 2 requests lost; first ")
    assert "timed out" in problem
    assert lost(history, seen.down, ("cluster1",), but=seen.down) == [], "what may be lost is left out"
    assert lost(history, seen.down, ("cluster1",), but=seen.recovery) == [problem]
    assert lost(history, seen.recovery, ("cluster1",)) == []
    assert lost(history, seen.recovery, ("cluster2",)) == ["no request was sent, or no outcome is known"]


def test_a_load_of_which_nothing_is_known_is_no_success() -> None:
    history = History()
    history.add(request(12.0, RequestOutcome.UNKNOWN, source="cluster1"))
    assert lost(history, drill().down, ("cluster1",)) == ["no request was sent, or no outcome is known"]


def test_a_load_that_lost_requests_before_the_fault_proves_nothing() -> None:
    history = History()
    history.add(request(5.0, RequestOutcome.LOST, source="cluster1"))
    with pytest.raises(Broken, match="requests were lost before the fault"):
        must_have_been_healthy(drill(history=history), ("cluster1",))


def test_a_drill_that_did_not_end_cannot_be_judged() -> None:
    with pytest.raises(Broken, match="was not injected and undone completely"):
        drill(transient_fault=None).down  # noqa: B018


def test_figures_tell_how_long_a_fault_was_felt_before_and_after_healing() -> None:
    history = History()
    for second, outcome, latency in (
        (9, RequestOutcome.LOST, 0.1),
        (12, RequestOutcome.LOST, 0.1),
        (14, RequestOutcome.ANSWERED, 3.0),
        (15, RequestOutcome.UNKNOWN, 0.0),
        (21, RequestOutcome.REFUSED, 0.1),
        (25, RequestOutcome.ANSWERED, 0.01),
    ):
        history.add(request(float(second), outcome, latency_s=latency))
    assert drill(history=history, healed_s=6.54).figures(("a",)) == {
        "requests": 5,
        "lost": 2,
        "unknown": 1,
        "slowest_s": 3.0,
        "detect_s": 4,
        "recover_s": 1,
        "healed_s": 6.5,
        "late_s": 0.0,
    }


class RefusingKube(LocalKube):
    """Admission that answers every dry run with this status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__()
        self._error = ApiError("POST", status, reason)

    def request(self, *args: Any, **kwargs: Any) -> bytes:
        raise self._error

    def list(self, kind: str, namespace: str | None = None, *, labels: str = "") -> list[dict[str, Any]]:
        return [{"webhooks": [{"name": "validation.istio.io", "failurePolicy": "Fail"}]}]


def test_admissions_words_are_kept_but_throttling_is_not_admission() -> None:
    from meshproof.mesh.handles import Cluster

    model = mesh_of("multi-primary-samenet").clusters[0]
    dead = RefusingKube(500, 'Internal error occurred: failed calling webhook "x": connection refused')
    seen = Admission.ask(Cluster(spec=model.spec, access=model.access, kube=dead), "client")
    assert seen.pod.by_webhook
    assert seen.guarded
    with pytest.raises(ApiError):
        Admission.ask(Cluster(spec=model.spec, access=model.access, kube=RefusingKube(429, "slow down")), "client")


def answers(**versions: int) -> tuple[HttpAnswer, ...]:
    return tuple(HttpAnswer(status=200, version=v, seconds=0.01) for v, count in versions.items() for _ in range(count))


def count(answered: tuple[HttpAnswer, ...], sent_to: dict[str, int], handshakes: int, forwarded: int) -> PathCount:
    return PathCount(
        targets=(("198.18.2.1", 15443),),
        answers=answered,
        sent_to=sent_to,
        handshakes=handshakes,
        forwarded=forwarded,
    )


def test_across_networks_the_far_gateway_must_have_been_taken() -> None:
    def judge(seen: PathCount) -> list[str]:
        return path_problems(seen, "cluster2", crosses=True)

    assert judge(count(answers(cluster2=20), {"198.18.2.1:15443": 20}, 5, 5)) == []
    assert judge(count(answers(cluster2=20), {"10.2.0.1:8080": 20}, 5, 5)) == [
        "20 answers came from cluster2, but the client's proxy sent 0 requests there"
    ]
    assert judge(count(answers(cluster1=20), {"10.1.0.1:8080": 20}, 5, 2)) == [
        "20 of 20 answers did not come from cluster2",
        "5 handshakes completed, the far gateway forwarded 2",
    ]


def test_a_gateway_whose_counters_nobody_can_read_is_judged_by_the_client_alone() -> None:
    unseen = replace(count(answers(cluster2=20), {"198.18.2.1:15443": 20}, 0, 0), handshakes=None)
    assert path_problems(unseen, "cluster2", crosses=True) == []


def test_every_gateway_into_a_network_counts() -> None:
    """A second one that istiod knows by its label takes its part of the connections."""
    facts = snapshot_of("multi-primary-multinet").facts[1]
    labels = {names.NETWORK_LABEL: "network2"}
    second = replace(gateway("second", 15443), labels=labels, addresses=("198.18.2.7",), selector={"app": "second"})
    pods = (pod("second-x", names.SYSTEM_NAMESPACE, app="second"), pod("other", names.SYSTEM_NAMESPACE, app="other"))
    both = replace(facts, services=(*facts.services, second), pods=pods)
    assert counted_addresses(both) == {"198.18.2.1", "198.18.2.7"}
    assert [each.name for each in both.service_gateway_pods] == ["second-x"]
    assert counted_addresses(facts) == {"198.18.2.1"}


def test_on_one_network_the_far_gateway_must_not_have_been_touched() -> None:
    seen = replace(count(answers(cluster2=20), {"10.2.0.1:8080": 20}, 0, 3), targets=(("10.2.0.1", 8080),))
    assert path_problems(seen, "cluster2", crosses=False) == [
        "the far gateway forwarded 3 connections, although both are on one network"
    ]


SPEC = mesh_of("primary-remote-multinet").clusters[0].spec


def gateway(name: str, *ports: int) -> ServiceFacts:
    return ServiceFacts(
        namespace=names.SYSTEM_NAMESPACE,
        name=name,
        kind="LoadBalancer",
        labels={},
        addresses=("198.18.1.1",),
        ports=tuple(PortFacts(name="", number=port) for port in ports),
    )


def test_surplus_and_missing_ports_of_gateways_are_named() -> None:
    assert spec_problems(SPEC, gateway(names.EAST_WEST, 15021, 15443), frozenset({15443})) == []
    assert spec_problems(SPEC, gateway(names.EAST_WEST, 15021, 15012), frozenset({15443})) == [
        "does not expose port 15443, which is required",
    ]
    assert spec_problems(SPEC, gateway(names.INGRESS, 80, 15012), frozenset({15443})) == []


def test_what_may_answer_is_what_is_needed_and_at_other_gateways_what_is_not_for_clusters() -> None:
    mesh = mesh_of("multi-primary-multinet")
    east, samenet = mesh.clusters[0], mesh_of("multi-primary-samenet")
    as_in_istios_script = gateway(names.EAST_WEST, 15021, 15443, 15012, 15017)
    assert allowed_ports(mesh, east, as_in_istios_script) == {15021, 15443}
    assert allowed_ports(samenet, samenet.clusters[0], as_in_istios_script) == {15021}
    assert allowed_ports(mesh, east, gateway(names.INGRESS, 15021, 80, 443, 15443, 15010)) == {15021, 80, 443}
    assert allowed_ports(mesh, east, gateway(names.INGRESS, 8080, 9000)) == {8080, 9000}
    istiod = replace(gateway(names.ISTIOD, 8080, 15012, 15010, 443), selector={"app": "istiod"})
    assert allowed_ports(mesh, east, istiod) == {443}


def test_one_gateway_may_be_for_users_and_for_clusters() -> None:
    mesh = mesh_of("multi-primary-multinet")
    ingress = mesh.clusters[0].spec.ingress
    assert ingress is not None
    spec = replace(mesh.clusters[0].spec, east_west=ingress)
    both = replace(mesh.clusters[0], spec=spec)
    model = replace(mesh, clusters=(both, *mesh.clusters[1:]))
    assert allowed_ports(model, both, gateway(names.INGRESS, 15021, 80, 15443, 15012)) == {15021, 80, 15443}


REFUSED = AttemptReply(
    tls=TlsAnswer(chain=(), requests_client_certificate=False, reason="wrong version number"), status=0
)


def reply_of(*dns: str, asks: bool = False, status: int = 0) -> AttemptReply:
    """Of a server whose certificate has these names."""
    san = x509.SubjectAlternativeName([x509.DNSName(name) for name in dns])
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, datetime(2026, 1, 1), datetime(2027, 1, 1))
        .add_extension(san, critical=False)
        .sign(key, hashes.SHA256())
    )
    return AttemptReply(tls=TlsAnswer(chain=(built,), requests_client_certificate=asks), status=status, reason="closed")


ISTIOD_NAMES = ("istiod.istio-system.svc", "istiod-remote.istio-system.svc")


def test_a_surplus_port_lets_nobody_in_if_it_wants_a_certificate_or_leads_to_istiod_or_nowhere() -> None:
    known, nowhere = "clients must authenticate there", "connections there are closed without an answer"
    assert harmless(15012, reply_of(*ISTIOD_NAMES)) == known
    assert harmless(15017, reply_of(*ISTIOD_NAMES, status=404)) == known
    assert harmless(443, reply_of(*ISTIOD_NAMES)) == "", "istiod is not there"
    assert harmless(15012, reply_of("shop.example")) == ""
    assert harmless(9443, reply_of("shop.example", asks=True)) == known
    assert harmless(9443, reply_of("shop.example", asks=True, status=200)) == "", "it does without"
    assert harmless(9443, REFUSED) == harmless(15012, REFUSED) == "", "it speaks something else"
    for reason in (
        "write:errno=104",
        "0A000126:SSL routines::unexpected eof while reading",
        "did not finish within 5 s",
    ):
        closed_there = AttemptReply(tls=TlsAnswer(chain=(), requests_client_certificate=False, reason=reason), status=0)
        assert harmless(15012, closed_there) == nowhere
        assert harmless(9443, closed_there) == "", "whatever is there may speak before or after something else"


def test_ports_that_are_only_listed_or_that_let_nobody_in_are_advice() -> None:
    service = gateway(names.EAST_WEST, 15021, 15443, 15012, 15017, 15010)
    surplus = frozenset({15012, 15017, 15010})
    lists = "istio-system/istio-eastwestgateway lists"
    assert port_notes(service, surplus, {15021, 15443}, {}) == [
        f"{lists} 15010, 15012, 15017, which the topology does not need; nothing accepts connections there: "
        "remove it from the Service"
    ]
    replies = {15012: reply_of(*ISTIOD_NAMES), 15017: REFUSED}
    assert port_notes(service, surplus, {15443, 15012, 15017}, replies) == [
        f"{lists} 15010, which the topology does not need; nothing accepts connections there: "
        "remove it from the Service",
        f"{lists} 15012, which the topology does not need; clients must authenticate there: remove it from the Service",
    ], "15017 is a failure"
    assert port_notes(service, frozenset(), {15443}, {}) == []


def test_who_answers_at_a_surplus_port_without_wanting_to_know_who_calls_is_a_failure() -> None:
    seen = [TcpAnswer(address="a", port=port, accepted=True) for port in (15443, 15012, 9443, 9080, 15010)]
    replies = {
        15012: reply_of(*ISTIOD_NAMES),
        9443: reply_of("shop.example"),
        9080: REFUSED,
        15010: reply_of("shop.example", asks=True),
    }
    assert wire_problems(seen, frozenset({15443}), frozenset({15443}), replies) == [
        "surplus port 9080 accepts unauthenticated clients: refused (wrong version number)",
        "surplus port 9443 accepts unauthenticated clients: presented CN=server, does not request a "
        "client certificate, and did not respond (closed)",
        "port 15010 accepts connections",
    ]


def test_silence_counts_only_where_something_answers() -> None:
    def seen(*accepted: int) -> list[TcpAnswer]:
        ports = (15021, 15443, 15010)
        return [TcpAnswer(address="a", port=port, accepted=port in accepted) for port in ports]

    allowed, needed = frozenset({15021, 15443}), frozenset({15443})
    assert wire_problems(seen(15021, 15443), allowed, needed) == []
    assert wire_problems(seen(15021, 15010), allowed, needed) == [
        "port 15010 accepts connections",
        "port 15443 does not answer",
    ]
    assert wire_problems(seen(), allowed, needed)[-1].startswith("positive control failed: no port answers at all")


# -- certificates that end in an outage -------------------------------------------------------------------------------


def short_lived(**changes: Any) -> ShortLived:
    load: Any = None
    (cluster, *_) = mesh_of("multi-primary-samenet").clusters
    return ShortLived(**({"cluster": cluster, "pod": pod("short"), "load": load, "ends": at(5)} | changes))


def sent(*requests: tuple[float, RequestOutcome]) -> History:
    history = History()
    for second, outcome in requests:
        history.add(replace(request(second, outcome), source="cluster1 short-lived"))
    return history


def down(history: History) -> Outage:
    """From second 2 to 8; over at 12."""
    transient_fault = TransientFault(
        what="istiod of cluster1 stopped", injected=at(2), gone=at(2.5), heal=at(8), back=at(9)
    )
    return outage(drill=drill(history=history, transient_fault=transient_fault, end=at(12)))


def test_a_certificate_serves_until_it_ends_and_its_successor_after_that() -> None:
    seen = down(
        sent(
            (3, RequestOutcome.ANSWERED),
            (6, RequestOutcome.LOST),
            (9.5, RequestOutcome.LOST),
            (11, RequestOutcome.ANSWERED),
        )
    )
    assert lost_until_end(seen, short_lived()) == []
    assert lost_once_renewed(seen, short_lived(renewed_s=1.5)) == []
    assert autonomy(replace(seen, short_lived=(short_lived(renewed_s=1.5),))) == {
        "without_certificate": 1,
        "without_certificate_lost": 1,
        "renewed_s": 1.5,
    }


def test_losses_before_expiry_or_after_renewal_are_reported() -> None:
    seen = down(sent((3, RequestOutcome.LOST), (11, RequestOutcome.LOST)))
    (before,) = lost_until_end(seen, short_lived())
    (after,) = lost_once_renewed(seen, short_lived(renewed_s=1.5))
    assert before.startswith("1 of 1 requests lost")
    assert after.startswith("1 of 1 requests lost")
    (never,) = lost_once_renewed(seen, short_lived())
    assert never == "no new certificate within 60 s of istiod being back"


def test_a_certificate_that_did_not_expire_proves_nothing() -> None:
    with pytest.raises(Broken, match="it did not expire while istiod was down"):
        short_lived(ends=Mark(monotonic_s=0, wall=9e9)).note_kept()


def test_outages_that_were_skipped_are_no_success() -> None:
    findings = Findings("loads")
    findings.examine("a load")
    mesh = mesh_of("multi-primary-samenet")
    all_of_them = Outages(drilled=(down(sent()),))
    all_of_them.conclude(findings)
    with pytest.raises(Broken, match="istiod of cluster2: it was not stopped, since the mesh was unhealthy"):
        replace(all_of_them, untried=mesh.clusters[1:]).conclude(findings)
    findings.examine("another", ["lost"])
    with pytest.raises(ClaimFailed, match="1 of 2 loads are wrong"):
        replace(all_of_them, untried=mesh.clusters[1:]).conclude(findings)


def test_a_gap_in_admission_is_judged_by_the_bound_of_its_cluster(tmp_path: Path) -> None:
    mesh = mesh_of("primary-remote-multinet")
    primary, remote = mesh.primaries[0], mesh.remotes[0]
    seen, evidence, span = Findings("gaps"), Evidence(tmp_path), drill().down
    within = CheckResult(at_s=span.begin_s + BOUNDS.replica_gap.seconds - 0.1, took_s=0, wrong="")
    good = [replace(within, at_s=within.at_s + 0.5 * n) for n in range(40)]
    judge_gaps(
        seen, evidence, drill(), AvailabilityMonitor(results={"a": good, "b": good}), {"a": primary, "b": remote}
    )
    assert (seen.examined, seen.wrong) == (["a", "b"], {})
    silent = AvailabilityMonitor(results={"a": [replace(within, wrong="refused")]})
    judge_gaps(seen, evidence, drill(), silent, {"a": remote})  # ten seconds are too long for a primary only
    assert seen.wrong == {}
    judge_gaps(seen, evidence, drill(), silent, {"a": primary})
    assert [problem for problem in seen.wrong["a"] if problem.endswith(": refused")] == seen.wrong["a"] != []


def test_every_capability_must_work_and_a_new_namespace_get_its_root() -> None:
    primary, seen = mesh_of("multi-primary-samenet").primaries[0], Findings("powers")
    judge_capabilities(seen, primary, CapabilityResults(problems={"a route": []}), 1.5)
    assert (len(seen.examined), seen.wrong) == (2, {})
    judge_capabilities(seen, primary, CapabilityResults(problems={"a route": ["it does not arrive"]}), None)
    assert seen.wrong == {
        f"istiod of {primary}: a route": ["it does not arrive"],
        f"istiod of {primary}: a new namespace": [f"no root certificate in it within {BOUNDS.leader.seconds:g} s"],
    }
