"""A thin typed layer over the official kubernetes client: JSON in and out, watches, exec, server-side apply."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream
from kubernetes.stream.ws_client import ERROR_CHANNEL
from websocket import WebSocketException

from meshproof.claims.job import require_config_pushes
from meshproof.clients.kubernetes.config_pushes import makes_istiod_push
from meshproof.clients.kubernetes.credential_files import key_folder
from meshproof.core.errors import BadInput, Broken, NotReady
from meshproof.core.waiting import NotYet

Json = dict[str, Any]

FIELD_MANAGER = "meshproof"

CONNECTIONS = 16
"""Maximum of open connections; more than `meshproof.core.concurrency.WIDTH`, or some would be reopened for each
request."""

EXECS = 12
"""Commands in containers at once, over all clusters and callers of this process.

Measured in the lab (two clusters, two cores): 8 at once are 48 to 56 in a second, 12 to 24 are 52 to 57, and more gain
nothing; with 12 each takes 0.2 s, with 48 and more 0.7 to 1 s, or as much as 12 s. A pass takes 26 s with 12, 27 s with
8 or 16, 34 s with 32, and 38 s without a bound.
"""
EXEC_SLOTS = threading.BoundedSemaphore(EXECS)

FORBIDDEN = 403
"""The HTTP status for missing rights."""

# kind -> (path prefix, plural, namespaced), for the kinds that we write.
_KINDS: Mapping[str, tuple[str, str, bool]] = {
    "Namespace": ("/api/v1", "namespaces", False),
    "Node": ("/api/v1", "nodes", False),
    "Secret": ("/api/v1", "secrets", True),
    "ConfigMap": ("/api/v1", "configmaps", True),
    "Service": ("/api/v1", "services", True),
    "ServiceAccount": ("/api/v1", "serviceaccounts", True),
    "Pod": ("/api/v1", "pods", True),
    "Event": ("/api/v1", "events", True),
    "Endpoints": ("/api/v1", "endpoints", True),
    "EndpointSlice": ("/apis/discovery.k8s.io/v1", "endpointslices", True),
    "Deployment": ("/apis/apps/v1", "deployments", True),
    "DaemonSet": ("/apis/apps/v1", "daemonsets", True),
    "ClusterRole": ("/apis/rbac.authorization.k8s.io/v1", "clusterroles", False),
    "ClusterRoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings", False),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles", True),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings", True),
    "MutatingWebhookConfiguration": (
        "/apis/admissionregistration.k8s.io/v1",
        "mutatingwebhookconfigurations",
        False,
    ),
    "ValidatingWebhookConfiguration": (
        "/apis/admissionregistration.k8s.io/v1",
        "validatingwebhookconfigurations",
        False,
    ),
    "ValidatingAdmissionPolicy": (
        "/apis/admissionregistration.k8s.io/v1",
        "validatingadmissionpolicies",
        False,
    ),
    "ValidatingAdmissionPolicyBinding": (
        "/apis/admissionregistration.k8s.io/v1",
        "validatingadmissionpolicybindings",
        False,
    ),
    "MutatingAdmissionPolicy": ("/apis/admissionregistration.k8s.io/v1", "mutatingadmissionpolicies", False),
    "MutatingAdmissionPolicyBinding": (
        "/apis/admissionregistration.k8s.io/v1",
        "mutatingadmissionpolicybindings",
        False,
    ),
    "Gateway": ("/apis/networking.istio.io/v1", "gateways", True),
    "ResourceQuota": ("/api/v1", "resourcequotas", True),
    "LimitRange": ("/api/v1", "limitranges", True),
    "VirtualService": ("/apis/networking.istio.io/v1", "virtualservices", True),
    "DestinationRule": ("/apis/networking.istio.io/v1", "destinationrules", True),
    "ServiceEntry": ("/apis/networking.istio.io/v1", "serviceentries", True),
    "Sidecar": ("/apis/networking.istio.io/v1", "sidecars", True),
    "EnvoyFilter": ("/apis/networking.istio.io/v1alpha3", "envoyfilters", True),
    "PeerAuthentication": ("/apis/security.istio.io/v1", "peerauthentications", True),
    "AuthorizationPolicy": ("/apis/security.istio.io/v1", "authorizationpolicies", True),
    "RequestAuthentication": ("/apis/security.istio.io/v1", "requestauthentications", True),
    "Telemetry": ("/apis/telemetry.istio.io/v1", "telemetries", True),
    "CustomResourceDefinition": ("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions", False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """Output of a command that has finished in a container."""

    stdout: str
    stderr: str
    exit_code: int


class ApiError(Broken):
    """The API server returned an error; `status` is the HTTP code, `body` the response."""

    def __init__(self, what: str, status: int, reason: str) -> None:
        self.status = status
        super().__init__(what, f"HTTP {status}: {reason}")


def path_of(kind: str, namespace: str | None = None, name: str | None = None) -> str:
    """The API path of a kind (and object), e.g. `/api/v1/namespaces/meshproof-app/services/mockshop`."""
    try:
        prefix, plural, namespaced = _KINDS[kind]
    except KeyError:
        raise BadInput(f"kind {kind}", "meshproof does not support it", f"use one of {', '.join(_KINDS)}") from None
    scope = f"/namespaces/{quote(namespace)}" if namespaced and namespace else ""
    return f"{prefix}{scope}/{plural}" + (f"/{quote(name)}" if name else "")


def api_version(kind: str) -> str:
    """The `apiVersion` of a kind, e.g. `v1`, `apps/v1`."""
    prefix = path_of(kind).rsplit("/", 1)[0]
    return prefix.removeprefix("/apis/").removeprefix("/api/")


def label_selector(labels: Mapping[str, str]) -> str:
    """The selector for objects with all of these labels."""
    return ",".join(f"{key}={value}" for key, value in labels.items())


class _Configuration(client.Configuration):
    """The client's configuration, but without the line break at the end of most token files: kubectl and client-go drop
    it.

    http.client rejects it with an error that quotes the token.
    """

    def get_api_key_with_prefix(self, identifier: str, alias: str | None = None) -> str | None:
        key = super().get_api_key_with_prefix(identifier, alias)
        return key.strip() if isinstance(key, str) else None


class Kube:
    """One cluster's API server. Safe to use from several threads.

    `kubeconfig` is one file, or several joined as in the variable KUBECONFIG.
    """

    def __init__(self, kubeconfig: Path, context: str, *, name: str = "") -> None:
        self.kubeconfig = kubeconfig
        self.context = context
        self.name = name or context
        self._made: Counter[str] = Counter()
        self._count = threading.Lock()

    @property
    def requests(self) -> Mapping[str, int]:
        """Requests made so far, by verb: the HTTP method, `WATCH` for a watch, `EXEC` for a command in a container."""
        with self._count:
            return dict(self._made)

    @property
    def calls(self) -> int:
        """Requests made so far."""
        return sum(self.requests.values())

    @property
    def server(self) -> str:
        """The API server's URL. Raises `BadInput` if the kubeconfig cannot be used."""
        return str(self._api.configuration.host)

    def _note(self, verb: str) -> None:
        with self._count:
            self._made[verb] += 1

    @cached_property
    def _api(self) -> client.ApiClient:
        configuration = _Configuration()
        configuration.connection_pool_maxsize = CONNECTIONS
        try:
            config.load_kube_config(
                config_file=str(self.kubeconfig),
                context=self.context,
                client_configuration=configuration,
                temp_file_path=str(key_folder()),
            )
        except (config.ConfigException, OSError) as problem:
            raise BadInput(
                f"kubeconfig {self.kubeconfig}, context {self.context}", str(problem), "name one of its contexts"
            ) from problem
        return client.ApiClient(configuration)

    # -- plain requests -------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        timeout_s: float = 15.0,
    ) -> bytes:
        """Send one request and return the body. Raises `ApiError` (an error response) or `NotReady` (no response).

        Raises `Broken` if it makes istiod push without the running claim having declared that.
        """
        if makes_istiod_push(method, path, query or {}):
            require_config_pushes(f"{method} {path} on {self.name}", removes=method == "DELETE")
        url = f"{path}?{urlencode(query)}" if query else path
        response, data = self._send(method, url, body=body, content_type=content_type, timeout_s=timeout_s)
        status = int(response.status)
        if status >= 400:
            raise ApiError(f"{method} {path} on {self.name}", status, _status_text(data))
        return data

    def _send(
        self,
        method: str,
        url: str,
        *,
        body: object = None,
        content_type: str = "application/json",
        timeout_s: float = 15.0,
    ) -> tuple[Any, bytes]:
        """The response with any status, and its body."""
        self._note(method)
        what = f"{method} {url.partition('?')[0]} on {self.name}"
        try:
            response = self._api.call_api(
                method,
                self._api.configuration.host + url,
                header_params=self._headers(content_type),
                body=body,
                _request_timeout=timeout_s,
            )
            return response, bytes(response.read())
        except ApiException as problem:
            raise ApiError(what, int(problem.status or 0), _message(problem)) from None
        except (urllib3.exceptions.HTTPError, OSError) as problem:
            raise NotReady(what, f"no response: {problem}", "check that the API server runs and is reachable") from None

    def _headers(self, content_type: str) -> dict[str, str]:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        self._api.update_params_for_auth(headers, [], ["BearerToken"], None, None, None)
        return headers

    def must_answer(self) -> None:
        """Raises `NotYet` while the API server is not ready, or does not respond within 2 s."""
        try:
            self.request("GET", "/readyz", timeout_s=2)
        except Broken as problem:
            raise NotYet(str(problem)) from None

    def clock(self) -> str:
        """The header `Date` of a response: the API server's clock, in whole seconds."""
        response, _ = self._send("GET", "/version")
        return str(response.getheaders().get("Date", ""))

    def get(self, path: str, **query: str) -> Json:
        """GET one path, parsed."""
        parsed = json.loads(self.request("GET", path, query=query))
        assert isinstance(parsed, dict)
        return parsed

    def post(self, path: str, body: Json) -> Json:
        """POST to one path, parsed: for reviews and other objects that are not stored."""
        parsed = json.loads(self.request("POST", path, body=body))
        assert isinstance(parsed, dict)
        return parsed

    def find(self, kind: str, name: str, namespace: str | None = None) -> Json | None:
        """The object, or None if there is none."""
        try:
            return self.get(path_of(kind, namespace, name))
        except ApiError as problem:
            if problem.status == 404:
                return None
            raise

    def list(self, kind: str, namespace: str | None = None, *, labels: str = "") -> list[Json]:
        """All objects of a kind (in one namespace or in all), in their newest state, with an optional label
        selector."""
        query = {"labelSelector": labels} if labels else {}
        items = self.get(path_of(kind, namespace), **query)["items"]
        assert isinstance(items, list)
        return items

    def apply(self, manifest: Json) -> Json:
        """Server-side apply, forcing ownership of fields that other managers own."""
        meta = manifest["metadata"]
        path = path_of(manifest["kind"], meta.get("namespace"), meta["name"])
        answer = self.request(
            "PATCH",
            path,
            body=manifest,
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            content_type="application/apply-patch+yaml",
        )
        parsed = json.loads(answer)
        assert isinstance(parsed, dict)
        return parsed

    def merge_patch(self, kind: str, name: str, patch: Json, namespace: str | None = None, *, sub: str = "") -> None:
        """RFC 7386 merge patch of an object, or of its subresource `sub` (for example `status`, `scale`)."""
        path = path_of(kind, namespace, name) + (f"/{sub}" if sub else "")
        self.request("PATCH", path, body=patch, content_type="application/merge-patch+json")

    def create(self, manifest: Json) -> Json:
        """POST; `ApiError` 409 if it exists, and the webhook's message if admission denies it."""
        meta = manifest["metadata"]
        answer = self.request("POST", path_of(manifest["kind"], meta.get("namespace")), body=manifest)
        parsed = json.loads(answer)
        assert isinstance(parsed, dict)
        return parsed

    def delete(self, kind: str, name: str, namespace: str | None = None, *, grace_s: int | None = None) -> bool:
        """Delete an object in the background; False if it was not there."""
        query = {"propagationPolicy": "Background"}
        if grace_s is not None:
            query["gracePeriodSeconds"] = str(grace_s)
        try:
            self.request("DELETE", path_of(kind, namespace, name), query=query)
        except ApiError as problem:
            if problem.status == 404:
                return False
            raise
        return True

    # -- watching -------------------------------------------------------------------------------------------------

    def watch(self, path: str, *, timeout_s: float, **query: str) -> Iterator[Json]:
        """The objects of a collection now, then every change, as watch events, for at most `timeout_s` seconds.

        Each item is `{"type": "ADDED"|"MODIFIED"|"DELETED", "object": …}`. It lists first: a watch that starts "now"
        waits until the API server's cache is fresh and gives up with HTTP 504 on an etcd without progress notifications
        (before 3.4.25), and one that starts at version 0 may return an outdated state. With `resourceVersion` in
        the query it starts from there. Raises `NotReady` if the stream breaks.
        """
        if "resourceVersion" not in query:
            listed = self.get(path, **query)
            for item in listed["items"]:
                yield {"type": "ADDED", "object": item}
            query["resourceVersion"] = listed["metadata"]["resourceVersion"]
        self._note("WATCH")
        params = {**query, "watch": "true", "timeoutSeconds": str(max(1, round(timeout_s)))}
        what = f"watch {path} on {self.name}"
        try:
            response = self._api.call_api(
                "GET",
                f"{self._api.configuration.host}{path}?{urlencode(params)}",
                header_params=self._headers("application/json"),
                _request_timeout=(5.0, timeout_s + 5),
            )
            if int(response.status) >= 400:
                raise ApiError(what, int(response.status), _status_text(response.read()))
            buffered = b""
            try:
                for chunk in response.response.stream(4096, decode_content=False):
                    buffered += chunk
                    *lines, buffered = buffered.split(b"\n")
                    for line in filter(None, lines):
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            status = event["object"]
                            raise ApiError(what, int(status.get("code", 0)), str(status.get("message", status)))
                        yield event
            finally:
                response.response.close()
        except ApiException as problem:
            raise ApiError(what, int(problem.status or 0), _message(problem)) from None
        except (urllib3.exceptions.HTTPError, OSError) as problem:
            raise NotReady(what, f"stream broke: {problem}") from None

    def changes_of(
        self, kind: str, name: str, namespace: str | None, seen: Json | None, *, timeout_s: float
    ) -> Iterator[Json | None]:
        """The states of one object after `seen` (None: it does not exist), for at most `timeout_s` seconds.

        May end early where the server cannot watch from there: get the object again, and watch again.
        """
        version = str(seen["metadata"].get("resourceVersion", "0")) if seen else "0"
        query = {"fieldSelector": f"metadata.name={name}", "resourceVersion": version}
        path = path_of(kind, namespace)
        try:
            for event in self.watch(path, timeout_s=timeout_s, **query):
                yield None if event["type"] == "DELETED" else event["object"]
        except ApiError as problem:
            # 504: the cache is behind `seen`. 410: its version has been compacted, so the cache is newer.
            if problem.status == 410:
                for event in self.watch(path, timeout_s=timeout_s, **(query | {"resourceVersion": "0"})):
                    yield None if event["type"] == "DELETED" else event["object"]
            elif problem.status != 504:
                raise

    # -- inside containers ----------------------------------------------------------------------------------------

    def exec(
        self,
        namespace: str,
        pod: str,
        argv: Sequence[str],
        *,
        container: str | None = None,
        stdin: str | None = None,
        timeout_s: float = 30.0,
    ) -> ExecResult:
        """Run a command in a container and wait for its end.

        `stdin` is for secrets: `argv` appears in audit logs and error texts. It is
        never closed: the protocol has no end of file before version 5, so the command must detect the end itself.
        Raises `NotReady` if the command has not ended within `timeout_s` or the connection is cut: a broken exec
        never counts as a result. A non-zero exit is a result (`exit_code`). While `EXECS` others are running it
        waits; that time does not count.
        """
        with EXEC_SLOTS:
            return self._exec(namespace, pod, argv, container=container, stdin=stdin, timeout_s=timeout_s)

    def _exec(
        self,
        namespace: str,
        pod: str,
        argv: Sequence[str],
        *,
        container: str | None,
        stdin: str | None,
        timeout_s: float,
    ) -> ExecResult:
        self._note("EXEC")
        what = f"exec in {namespace}/{pod} on {self.name}: {' '.join(argv)[:120]}"
        # stream() swaps the ApiClient's request method while it runs, so it needs a client of its own.
        api = client.ApiClient(self._api.configuration)
        arguments: dict[str, object] = {"container": container} if container else {}
        try:
            session = stream(
                client.CoreV1Api(api).connect_get_namespaced_pod_exec,
                pod,
                namespace,
                command=[*argv],
                stdin=stdin is not None,
                stdout=True,
                stderr=True,
                tty=False,
                _preload_content=False,
                _request_timeout=timeout_s,
                **arguments,
            )
        except ApiException as problem:
            raise NotReady(what, f"could not start: {_message(problem)}", "check that the pod runs") from None
        except (WebSocketException, OSError) as problem:
            raise NotReady(what, f"could not start: {problem}", "check the API server and the kubelet") from None
        try:
            if stdin is not None:
                session.write_stdin(stdin)
            session.run_forever(timeout=timeout_s)
            if session.is_open():
                raise NotReady(what, f"did not finish within {timeout_s:g} s")
            code = _exit_code(what, session.read_channel(ERROR_CHANNEL))
            return ExecResult(
                stdout=session.read_stdout(timeout=0), stderr=session.read_stderr(timeout=0), exit_code=code
            )
        except (WebSocketException, OSError) as problem:
            raise NotReady(what, f"the connection was cut: {problem}") from None
        finally:
            session.close()
            session.sock.shutdown()  # close() leaves the socket open where the server closed first
            api.close()

    def logs(self, namespace: str, pod: str, *, container: str, tail_lines: int = 100) -> str:
        """The last lines of a container's log."""
        path = path_of("Pod", namespace, pod) + "/log"
        query = {"container": container, "tailLines": str(tail_lines)}
        return self.request("GET", path, query=query).decode(errors="replace")


def _exit_code(what: str, status: str) -> int:
    """The exit code that an exec's last message, a Status, tells. Raises `NotReady` if no command ran to its end.

    The client's own `returncode` takes every failure for an exit code: a container that is just being removed gives
    "OCI runtime exec failed" there.
    """
    if not status:
        raise NotReady(what, "the connection was cut before the command ended")
    reported = json.loads(status)
    if reported["status"] == "Success":
        return 0
    for cause in (reported.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise NotReady(what, f"did not run to its end: {reported.get('message')}", "check that the pod runs")


def _message(problem: ApiException) -> str:
    """The server's message. For a rejected `exec` it is at the end of the reason, after the headers."""
    body = problem.body or str(problem.reason).rpartition(" -+-+- ")[2]
    return _status_text(body.encode()) or str(problem.reason)


def _status_text(body: bytes) -> str:
    """The `message` of a Kubernetes Status object, else the raw text."""
    try:
        parsed = json.loads(body)
    except ValueError:
        return body.decode(errors="replace").strip()[:500]
    return str(parsed.get("message", parsed))[:1000] if isinstance(parsed, dict) else str(parsed)[:500]
