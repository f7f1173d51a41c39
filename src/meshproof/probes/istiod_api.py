"""Calls to istiod from a client pod with curl, like those of proxies (gRPC) and API servers (admission reviews).

Tokens go into the pod by standard input only (`meshproof.probes.pod_script`).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from meshproof.clients.kubernetes.client import ApiError, Json, Kube, path_of
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import Broken
from meshproof.mesh.objects import PodFacts
from meshproof.probes.answers import bracketed
from meshproof.probes.pod_script import Output, run

XDS: Final = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
SIGNING: Final = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
SERVICES: Final = {"xDS": XDS, "certificate signing": SIGNING}

UNAUTHENTICATED: Final = 16
"""gRPC status (google.golang.org/grpc/codes)."""

AUDIENCE: Final = "istio-ca"
"""Audience of the tokens that proxies send to istiod (chart istio-discovery, volume `istio-token`)."""
TOKEN_LIFE_S: Final = 600
"""The minimum that Kubernetes allows."""

Message = tuple[bytes, str, bytes]
"""A gRPC message with its prefix, in three parts: a text whose lines end in newlines, and what is around it."""
EMPTY_MESSAGE: Final[Message] = (bytes(5), "", b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class IstiodReply:
    """The result of a call: HTTP status (0: no response), gRPC status (None: absent), and the error message.

    `error` is curl's, if TLS or the connection failed.
    """

    http: int
    grpc: int | None
    message: str
    error: str = ""
    body: str = ""

    @property
    def refused(self) -> bool:
        """istiod rejected the caller as unauthenticated."""
        return self.grpc == UNAUTHENTICATED

    @property
    def let_in(self) -> bool:
        """istiod responded otherwise: it accepted the caller."""
        return self.http == 200 and self.grpc != UNAUTHENTICATED

    def __str__(self) -> str:
        if self.error:
            return f"no response ({self.error})"
        status = f"gRPC status {self.grpc}" if self.grpc is not None else f"HTTP {self.http}"
        return f"{status}{f': {self.message[:160]}' if self.message else ''}"


def token_of(kube: Kube, pod: PodFacts) -> str:
    """A token for the pod's service account like its proxy's. The TokenRequest API stores nothing."""
    path = f"{path_of('ServiceAccount', pod.namespace, pod.account)}/token"
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [AUDIENCE], "expirationSeconds": TOKEN_LIFE_S},
    }
    try:
        answer = json.loads(kube.request("POST", path, body=body))
    except ApiError as problem:
        raise Broken(
            f"a token for {pod} on {kube.name}", problem.reason, "grant the right to create serviceaccounts/token"
        ) from None
    return str(answer["status"]["token"])


def call_istiod(
    kube: Kube,
    pod: PodFacts,
    *,
    host: str,
    port: int,
    target: tuple[str, int],
    path: str,
    ca: str,
    headers: Mapping[str, str],
    body: Json | None = None,
    message: Message | None = None,
    timeout_s: float = DEADLINES.call_s,
) -> IstiodReply:
    """POST to `https://host:port/path` at the address `target`, trusting only `ca`, and verify the server name.

    Without a body it is a gRPC call, with a message or without one.
    """
    kind = "application/json" if body is not None else "application/grpc"
    wanted = {"content-type": kind, "te": "trailers", "expect": "", **headers}
    lines = "".join(
        f"header = {json.dumps(f'{key}: {value}' if value else f'{key}:')}\n" for key, value in wanted.items()
    )
    files = {"ca": ca, "headers": lines}
    files |= {"body": json.dumps(body)} if body is not None else {}
    argv = ["curl", "-s", "-S", "--http2", "--max-time", f"{timeout_s:g}", "--cacert", "ca", "-K", "headers"]
    argv += ["--connect-to", f"{host}:{port}:{bracketed(target[0])}:{target[1]}", "-X", "POST"]
    argv += ["--data-binary", "@body"] if body is not None or message is not None else []
    # The gRPC status is in the trailers, which only `-D` writes.
    command = shlex.join([*argv, "-D", "head", "-o", "answer", f"https://{host}:{port}{path}"])
    if message is not None:
        before, text, after = message
        files |= {"text": text} if text else {}
        middle = "cat text; " if text else ""
        command = f"{{ printf '{_octal(before)}'; {middle}printf '{_octal(after)}'; }} >body; {command}"
    done, head, answer = run(
        kube,
        pod,
        [command],
        then=["cat head 2>/dev/null", "cat answer 2>/dev/null"],
        what=path,
        timeout_s=timeout_s + 20,
        files=files,
    )
    return parse_call(done, head.text, answer.text, f"{path} from {pod} on {kube.name}")


def _octal(data: bytes) -> str:
    """As `printf` of every shell reads it: standard input has lines of text only."""
    return "".join(f"\\{byte:03o}" for byte in data)


_STATUS: Final = re.compile(r"^HTTP/\S+ (\d{3})", re.MULTILINE)
_GRPC: Final = re.compile(r"^grpc-status: *(\d+)", re.MULTILINE | re.IGNORECASE)
_MESSAGE: Final = re.compile(r"^grpc-message: *(.*?)\r?$", re.MULTILINE | re.IGNORECASE)


def parse_call(done: Output, head: str, body: str, what: str) -> IstiodReply:
    """From curl's exit code and error, headers with trailers, and body."""
    if done.exit_code == 127:
        raise Broken(what, f"curl did not run: {done.text.strip()[-200:]!r}", "the client image needs curl with HTTP/2")
    body = body.strip()
    status, grpc, message = _STATUS.findall(head), _GRPC.search(head), _MESSAGE.search(head)
    http = int(status[-1]) if status else 0
    return IstiodReply(
        http=http,
        grpc=int(grpc[1]) if grpc else None,
        message=message[1] if message else body[:160] if http >= 400 else "",
        error="" if http else next(iter(done.text.splitlines()), "")[:200] or f"curl exit code {done.exit_code}",
        body=body,
    )


# -- injection --------------------------------------------------------------------------------------------------------


def review(namespace: str) -> Json:
    """An admission review for injecting a pod, as an API server sends it."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "meshproof-review", "namespace": namespace},
        "spec": {"containers": [{"name": "probe", "image": "probe"}]},
    }
    request = {
        "uid": "00000000-0000-0000-0000-000000000001",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": namespace,
        "operation": "CREATE",
        "object": pod,
        "dryRun": True,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
