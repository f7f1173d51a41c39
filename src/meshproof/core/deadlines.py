"""How long things may take and how many requests a sample has: the numbers that judge claims, each with a name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Upper bounds in seconds. They leave a healthy mesh on a busy machine enough time; they are not goals."""

    connect_s: float = 5.0
    """A TCP or TLS handshake from one cluster to another."""
    answer_s: float = 5.0
    """One request, in samples of a healthy mesh."""
    call_s: float = 15.0
    """A TLS handshake, a request and its response, or a large body: one of dozens in a pod at once, so that each gets a
    small part of a busy machine. A refusal comes at once; only what hangs costs this time."""
    batch_s: float = 60.0
    """A whole sample of requests sent by one `exec`."""
    discovery_s: float = 15.0
    """From a ready mesh until every istiod reports every cluster as synced."""
    sync_s: float = 45.0
    """Until every proxy has acknowledged what it was sent: a push may be in flight when we look, and slow
    on a busy machine (20 s were too short once for three clusters on two cores). A rejection is final."""
    configuration_s: float = 20.0
    """From a change of Istio's configuration until the proxies that it governs follow it. istiod waits up to 10 s for
    more changes (`PILOT_DEBOUNCE_MAX`) before it pushes; on an idle machine it takes half a second."""
    return_home_s: float = 30.0
    """From the end of errors until ejected endpoints serve again (base ejection time 7 s: longer than the requests
    take that must not reach them, on a busy machine too)."""
    root_config_map_s: float = 15.0
    """From the creation of a namespace until istiod has put `istio-ca-root-cert` into it."""
    fresh_pod_s: float = 90.0
    """From the creation of an injected pod until it is ready."""
    fresh_sidecar_s: float = 30.0
    """From the start of its sidecar until it is ready: on an idle machine it takes two seconds, and one whose control
    plane rejects it never becomes ready."""
    pods_gone_s: float = 60.0
    """From scaling istiod to zero until none of its pods is left (its grace period is 30 s)."""
    istiod_back_s: float = 120.0
    """From scaling istiod up until its replicas are available again."""
    outage_s: float = 15.0
    """How long a stopped istiod stays down while requests are counted."""
    waiting_pod_s: float = 4.0
    """How long before the end of an outage the Deployment that has to wait for it is created.

    The ReplicaSet controller doubles its pause after each refused pod (client-go's rate limiter, 5 ms to 1000 s), so
    a Deployment that waited through a long outage would wait as long again for the next attempt; that is Kubernetes'
    behaviour, not Istio's.
    """
    recovery_s: float = 60.0
    """From istiod being available until waiting pods are ready and every proxy is in sync."""
    canary_s: float = 10.0
    """From an endpoint's appearance (or removal) in one cluster until the proxies of the others know of it."""
    clock_skew_s: float = 5.0
    """Between any two clocks. Certificates begin 2 minutes in the past (istiod's `ClockSkewGracePeriod`), tokens have
    no such grace at their end. A machine that uses NTP is within 1 s, and the measurement is no finer."""
    client_s: float = 15.0
    """The client's own limit for one request while a fault is in place."""
    drained_s: float = 20.0
    """Beyond the drain time that proxies declare (45 s unless `drainDuration` is set), until none of them drains a
    listener: a push may have come meanwhile, and a busy machine closes connections late."""
    ejected_s: float = 60.0
    """Until no client has ejected an endpoint: two ejections in a row at Istio's default of 30 s (OutlierDetection)."""
    claim_s: float = 300.0
    """One claim that runs concurrently with others, without its waiting for them. A whole pass over three clusters with
    500 services takes 60 s, the slowest with a fault in the mesh 145 s (docs/performance.md, docs/sensitivity.md)."""
    test_bed_gone_s: float = 60.0
    """From the deletion of the test bed's namespaces until they are gone; the namespace controller waits 5 s itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Numbers of requests. Fixed beforehand: a sample that grows until it passes proves nothing."""

    shares: int = 1302
    """Per claim and source: the smallest that exposes a 60:40 skew of an even pair with a power of 0.99 at alpha 1e-6
    (docs/statistics.md)."""
    weights: int = 448
    """The same for routes weighted 80:20, of which it exposes 65:35."""
    spread: int = 24
    """Requests to a service of two even clusters: that one is never chosen happens once in eight million times."""
    local: int = 10
    """Requests that must all stay in their own cluster."""
    failing: int = 50
    """Requests to endpoints that return errors; the later ones must be answered by other endpoints."""
    failing_rate_hz: float = 10.0
    """How many of them are sent in a second."""
    repeated: int = 3
    """Requests whose response is the same each time."""
    record: int = 460
    """Per source in a baseline record: with an even pair it exposes 2:1."""
    path: int = 20
    """Requests that are counted by the proxies on their path."""
    handshakes: int = 5
    """Bare TLS handshakes that are counted by a gateway."""
    load_rate_hz: float = 5.0
    """Requests per second and source while a fault is in place."""
    without_app_s: float = 12.0
    """Seconds of load while a deleted application is still among the endpoints of a cluster without its istiod."""
    without_certificate_s: float = 6.0
    """Seconds for which an istiod stays down after the certificates of short-lived clients have expired."""
    partition_s: float = 12.0
    """Seconds for which a link stays cut: longer than Istio's default connect timeout of 10 s."""
    api_server_s: float = 4.0
    """Seconds for which API servers stay down; they take three more to start."""
    lost_s: float = 10.0
    """Seconds for which a whole cluster stays down, or hangs."""
    waiting_s: float = 3.0
    """Seconds for which a Deployment is observed while it waits for its control plane."""
    steady_s: float = 2.0
    """Seconds of load before the fault, as proof that the mesh was healthy, and after the last sign of recovery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizons:
    """Lifetimes of certificates."""

    authority: timedelta = timedelta(days=30)
    """Every CA certificate must remain valid for at least this long."""
    workload_longest: timedelta = timedelta(days=1, hours=1)
    """Istio's default workload certificate lives for 24 h (`DEFAULT_WORKLOAD_CERT_TTL`), and is backdated a little."""
    workload_left: float = 0.4
    """Minimum remaining share of a proxy certificate's lifetime: agents request the next certificate when half of it
    has passed (`SECRET_GRACE_PERIOD_RATIO`)."""
    remote_token: timedelta = timedelta(days=1)
    """The token by which an istiod reads another cluster must remain valid for at least this long, if it expires at
    all."""
    upgrade: timedelta = timedelta(days=60)
    """Time for an upgrade of Istio until every proxy is replaced; no CA should expire meanwhile."""


class BoundOrigin(StrEnum):
    """Where a bound comes from: documentation of Istio or Kubernetes, or our judgement of how long an operator
    waits."""

    PROMISE = "Istio's promise"
    PATIENCE = "our limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A bound of a FAILOVER claim in seconds (0: nothing may be lost), where it comes from, and why it has this
    value."""

    seconds: float
    origin: BoundOrigin
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The bounds of the FAILOVER claims; docs/failover.md has them as a table."""

    answer: Bound = Bound(
        seconds=5.0,
        origin=BoundOrigin.PATIENCE,
        why="a slower response is as bad as none: with resilience settings a hanging try costs 2 s, one that cannot "
        "connect 1 s, and then another endpoint is tried",
    )
    route_around: Bound = Bound(
        seconds=6.0,
        origin=BoundOrigin.PATIENCE,
        why="with resilience settings, from a fault until no request is lost or too slow any more: three errors and an "
        "interval of outlier detection of 1 s, and tries that were on their way",
    )
    silence: Bound = Bound(
        seconds=5.0,
        origin=BoundOrigin.PATIENCE,
        why="the longest pause between two answers of a client's own cluster, which no fault elsewhere should stop",
    )
    gateway_back: Bound = Bound(
        seconds=15.0,
        origin=BoundOrigin.PATIENCE,
        why="from the death of an east-west gateway's pods until no request across networks is lost any more: "
        "Kubernetes starts a pod, which gets its certificate and configuration",
    )
    rejoin: Bound = Bound(
        seconds=30.0,
        origin=BoundOrigin.PATIENCE,
        why="from the healing of a link until both clusters answer everywhere again and a change made in one is seen "
        "in the other: ejections end (5 s, longer each time), watches are tried again",
    )
    watched_again: Bound = Bound(
        seconds=60.0,
        origin=BoundOrigin.PROMISE,
        why="from the return of API servers until changes in them are followed: client-go tries a watch again after a "
        "pause that doubles from 0.8 s to 30 s, and may be twice as long (k8s.io/client-go, tools/cache, reflector)",
    )
    secret_gone: Bound = Bound(
        seconds=15.0,
        origin=BoundOrigin.PROMISE,
        why="istio.io, Install Multicluster: istiod watches remote secrets; from the deletion of one until its "
        "endpoints have left every proxy (PILOT_DEBOUNCE_MAX is 10 s)",
    )
    forgotten: Bound = Bound(
        seconds=1.0,
        origin=BoundOrigin.PATIENCE,
        why="from the first request that is lost until the last when a remote's secret goes: its istiod forgets the "
        "remote's pods, too, and their sidecars lose the cluster of their own port just before its listener",
    )
    secret_back: Bound = Bound(
        seconds=30.0,
        origin=BoundOrigin.PROMISE,
        why="the same for a new secret: istiod lists the whole cluster first (PILOT_REMOTE_CLUSTER_TIMEOUT, 30 s)",
    )
    replica_gap: Bound = Bound(
        seconds=3.0,
        origin=BoundOrigin.PATIENCE,
        why="after one of two replicas was killed kube-proxy may send API servers to it for a moment; Kubernetes "
        "promises no less than that a controller tries again",
    )
    remote_gap: Bound = Bound(
        seconds=15.0,
        origin=BoundOrigin.PATIENCE,
        why="the same for a remote: its API server comes through an east-west gateway, which learns of the death from "
        "istiod; a call on its way to the dead one hangs for the webhook's time limit of 10 s",
    )
    leader: Bound = Bound(
        seconds=60.0,
        origin=BoundOrigin.PROMISE,
        why="new namespaces are served by the leader of the replicas alone; its lease lasts 30 s, and the others try "
        "for it every few seconds (istio.io/istio, pilot/pkg/leaderelection)",
    )
    crash: Bound = Bound(
        seconds=30.0,
        origin=BoundOrigin.PATIENCE,
        why="from a crash of istiod's process until it is ready again: the kubelet starts it at once the first time, "
        "and after a pause that doubles from 10 s if it crashed lately",
    )
    cluster_back: Bound = Bound(
        seconds=120.0,
        origin=BoundOrigin.PATIENCE,
        why="from starting a lost cluster's machine until the mesh is healthy: all its pods start anew",
    )


DEADLINES: Final = Deadlines()
BOUNDS: Final = Bounds()
SAMPLES: Final = Samples()
HORIZONS: Final = Horizons()
