"""The WSGI application: Security Hub, Config and Organizations answered here, the rest passed on.

Requests are told apart by the scope of their signature and by botocore's service models; nothing
checks the signature itself. What the services answer is in their own modules.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import io
import json
import os
import re
import socket
import struct
import threading
import time
import urllib.parse
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from posture_pipeline.simulation import (
    cloudwatch_dashboards,
    cloudwatch_limits,
    cloudwatch_math,
    s3,
)
from posture_pipeline.simulation.aws_config import Config
from posture_pipeline.simulation.aws_errors import ServiceError, not_simulated
from posture_pipeline.simulation.clock import SimulatedClock
from posture_pipeline.simulation.faults import Fault, FaultPlan, spoil
from posture_pipeline.simulation.organization import SimulatedOrganization
from posture_pipeline.simulation.organizations import Organizations
from posture_pipeline.simulation.partitions import Translation
from posture_pipeline.simulation.security_hub import SecurityHub
from posture_pipeline.simulation.settings import SimulationSettings, SimulationSettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from botocore.model import ServiceModel, StructureShape

CALLS_KEPT = 100_000
"""Calls that the log holds before it forgets the oldest."""
CLOSE_AFTERWARDS = "posture.simulation.close"
"""Set in a request's environment when the connection must end with the reply."""
CONTROL_PATH = "/_sim/"
_SCOPE = re.compile(r"Credential=[^/]+/\d{8}/([^/]+)/([^/]+)/aws4_request")
_OUR_SERVICES = {
    "securityhub": "securityhub",
    "config": "config",
    "organizations": "organizations",
}
_JSON = "application/json"
_GOOD = (200, 206)
"""Statuses of replies whose body can be spoilt; the second is a part of an object."""
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}
_PASSED_ON_ERRORS = frozenset(
    {"throttle", "error", "slow", "truncate", "garbage", "empty", "reset", "lose_answer"}
)
_LOST = frozenset({"reset", "lose_answer"})
"""The client hears nothing; our own services have done by then what they were asked."""


class _Request(NamedTuple):
    """What a request asks for."""

    service: str
    region: str
    operation: str
    params: dict[str, Any]
    caller: str


class _Reply(NamedTuple):
    """What is sent back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class SimulationApplication:
    """One endpoint for the whole simulated organization.

    Args:
        settings: of the organization.
        passed_on_to: the application that answers every service but ours; None refuses them.
    """

    def __init__(
        self, settings: SimulationSettings, passed_on_to: WSGIApplication | None = None
    ) -> None:
        self.clock = SimulatedClock()
        self.organization = SimulatedOrganization(settings)
        self.security_hub = SecurityHub(self.organization, self.clock)
        self.faults = FaultPlan()
        self._translation = Translation(settings.home_region)
        self._passed_on_to = passed_on_to
        self._calls: deque[dict[str, Any]] = deque(maxlen=CALLS_KEPT)
        self._lock = threading.Lock()
        self._models: dict[str, ServiceModel] = {}
        self._routes: list[tuple[str, re.Pattern[str], str]] = []
        self._last_finding: bytes | None = None
        self._sending = self.security_hub.sending_operations()
        self._operations: dict[str, dict[str, Callable[[dict[str, Any], str], Any]]] = {
            "securityhub": dict(self.security_hub.operations()),
            "config": dict(Config(self.organization, self.clock).operations()),
            "organizations": dict(Organizations(self.organization, self.clock).operations()),
        }

    def calls(self) -> list[dict[str, Any]]:
        """Return the log of calls, oldest first."""
        with self._lock:
            return list(self._calls)

    def clear_calls(self) -> None:
        """Empty the log of calls."""
        with self._lock:
            self._calls.clear()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        body = _read_body(environ)
        path = environ.get("PATH_INFO", "/")
        if path.startswith(CONTROL_PATH):
            return self._send(self._control(environ["REQUEST_METHOD"], path, body), start_response)
        scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
        region, service = scope.groups() if scope else (self._home, "")
        if service not in _OUR_SERVICES:
            return self._pass_on(environ, start_response, service, region, body)
        fault: Fault | None = None
        call: dict[str, Any] = {"service": service, "operation": "?", "status": 0}
        try:
            request = self._read(environ, service, region, body)
            call = _summary(request)
            fault = self.faults.next_for(
                service,
                request.operation,
                region,
                with_token=bool(request.params.get("NextToken")),
            )
            if fault is not None:
                call["fault"] = fault.kind
                self._before(fault)
            reply = self._answer(request)
        except ServiceError as error:
            reply = self._error_reply(error, service)
        if fault is not None and fault.kind in _LOST:
            self._log(call, 0)
            return _reset(environ)
        self._log(call, reply.status)
        return self._send_spoilt(fault, reply, environ, start_response)

    # Our services

    @property
    def _home(self) -> str:
        return self.organization.settings.home_region

    def _answer(self, request: _Request) -> _Reply:
        params, region = request.params, request.region
        sending = self._sending.get(request.operation) if request.service == "securityhub" else None
        operation = self._operations[request.service].get(request.operation)
        if sending is None and operation is None:
            raise not_simulated(request.service, request.operation)
        params = self._translation.of_request(params)
        if request.service == "securityhub":
            self.security_hub.take(request.operation, region)
        if sending is not None:
            answer = sending(params, region, request.caller)
        else:
            assert operation is not None
            answer = operation(params, region)
        body = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
        body = self._translation.of_reply(body)
        kind = _JSON if request.service == "securityhub" else "application/x-amz-json-1.1"
        return _Reply(200, [("Content-Type", kind)], body)

    def _read(self, environ: WSGIEnvironment, service: str, region: str, body: bytes) -> _Request:
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if service != "securityhub":
            operation = target.rpartition(".")[2]
            if operation not in self._model(service).operation_names:
                raise ServiceError(
                    code="UnknownOperationException", message=f"Unknown operation {target!r}"
                )
            return _Request(service, region, operation, _json_object(body), self._caller(environ))
        operation, params = self._route(environ)
        if body:
            params.update(_json_object(body))
        return _Request(service, region, operation, params, self._caller(environ))

    def _model(self, service: str) -> ServiceModel:
        with self._lock:
            if service not in self._models:
                import botocore.session

                session = botocore.session.get_session()
                self._models[service] = session.get_service_model(service)
            return self._models[service]

    def _route(self, environ: WSGIEnvironment) -> tuple[str, dict[str, Any]]:
        """Return the Security Hub operation of a method and path, with its parameters."""
        model = self._model("securityhub")
        if not self._routes:
            routes = []
            for name in model.operation_names:
                http = model.operation_model(name).http
                template = http["requestUri"].partition("?")[0]
                pattern = re.sub(r"\\{(\w+)(\\\+)?\\}", _uri_group, re.escape(template))
                routes.append((http["method"], re.compile(f"^{pattern}$"), name))
            # Paths without parameters go first: /findings/import is no /findings/{Id}.
            routes.sort(key=lambda r: r[1].groups)
            self._routes = routes
        path = environ.get("PATH_INFO", "/").encode("latin-1").decode("utf-8", "replace")
        method = environ["REQUEST_METHOD"]
        for wanted, regex, name in self._routes:
            matched = regex.match(path) if wanted == method else None
            if matched:
                params: dict[str, Any] = dict(matched.groupdict())
                params.update(_query(environ, model.operation_model(name).input_shape))
                return name, params
        raise ServiceError(
            code="UnknownOperationException",
            message=f"Unknown operation {method} {path}",
            status=404,
        )

    def _error_reply(self, error: ServiceError, service: str) -> _Reply:
        headers = [("Content-Type", _JSON), ("x-amzn-ErrorType", error.code)]
        payload = {"__type": error.code, "message": error.message}
        if service == "securityhub":
            payload = {"Code": error.code, "Message": error.message}
        return _Reply(error.status, headers, json.dumps(payload).encode())

    # Faults

    def _before(self, fault: Fault) -> None:
        if fault.kind == "slow":
            time.sleep(fault.seconds)
        elif fault.kind == "expire_token":
            message = "Invalid NextToken: the token has expired"
            raise ServiceError(code=fault.error[0], message=message, status=fault.error[1])
        elif fault.kind in ("throttle", "error"):
            code, status = fault.error
            raise ServiceError(code=code, message=fault.message, status=status)

    def _send_spoilt(
        self,
        fault: Fault | None,
        reply: _Reply,
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        body, headers, length = reply.body, list(reply.headers), None
        if fault is not None:
            headers += list(fault.headers.items())
            if reply.status in _GOOD:
                with self._lock:
                    repeated = self._last_finding
                body = spoil(fault, reply.body, repeated)
            if fault.kind == "garbage":
                headers = [("Content-Type", "text/html"), *fault.headers.items()]
            elif fault.kind == "truncate":
                length = len(reply.body)
                environ[CLOSE_AFTERWARDS] = True
        self._remember(reply.body)
        return self._send(reply._replace(headers=headers, body=body), start_response, length)

    def _remember(self, body: bytes) -> None:
        """Keep one finding of the page, for a later page to repeat."""
        start = b'{"Findings":['
        if not body.startswith(start + b"{"):
            return
        end = body.find(b',{"SchemaVersion"', len(start))
        if end > 0:
            with self._lock:
                self._last_finding = body[len(start) : end]

    # Services that are passed on

    def _pass_on(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        service: str,
        region: str,
        body: bytes,
    ) -> Iterable[bytes]:
        operation = _passed_on_operation(environ, body)
        call: dict[str, Any] = {"service": service, "region": region, "operation": operation}
        if service == "s3":
            operation = s3.operation(environ)
            call |= {"operation": operation, **s3.summary(environ)}
        fault = self.faults.next_for(service, operation, region, with_token=False)
        calculated: dict[str, Any] | None = None
        try:
            if fault is not None and fault.kind in _PASSED_ON_ERRORS:
                call["fault"] = fault.kind
                self._before(fault)
            if service == "monitoring":
                params = cloudwatch_limits.request_params(
                    body,
                    environ.get("CONTENT_TYPE", ""),
                    environ.get("HTTP_CONTENT_ENCODING", ""),
                )
                if operation == "PutMetricData":
                    call["metrics"] = len(params.get("MetricData") or [])
                    cloudwatch_limits.check_put_metric_data(params, self.clock.now())
                cloudwatch_dashboards.check_request(operation, params)
                if operation == "GetMetricData" and cloudwatch_math.has_expressions(params):
                    calculated = params
                    body = _without_expressions(environ, params)
            if self._passed_on_to is None:
                raise not_simulated(service or "unsigned", operation)
        except ServiceError as error:
            self._log(call, error.status)
            reply = _passed_on_error(error, environ)
            return self._send_spoilt(fault, reply, environ, start_response)
        if fault is not None and fault.kind == "reset":
            self._log(call, 0)
            return _reset(environ)
        environ["wsgi.input"] = io.BytesIO(body)
        self._as_audit_account(environ)
        captured: list[tuple[str, list[tuple[str, str]]]] = []

        def capture(
            status: str, headers: list[tuple[str, str]], _exc: object = None, /
        ) -> Callable[[bytes], object]:
            captured.append((status, headers))
            return _no_write

        chunks = self._passed_on_to(environ, capture)
        content = b"".join(chunks)
        status, headers = captured[-1]
        code = int(status.split()[0])
        if calculated is not None and code in _GOOD:
            try:
                content = cloudwatch_math.answer(calculated, content)
            except ServiceError as error:
                self._log(call, error.status)
                reply = _passed_on_error(error, environ)
                return self._send_spoilt(fault, reply, environ, start_response)
        if fault is not None and fault.kind == "lose_answer":
            self._log(call, 0)
            return _reset(environ)
        self._log(call, code)
        kept = [(k, v) for k, v in headers if k.lower() not in ("date", "content-length")]
        declared = next((v for k, v in headers if k.lower() == "content-length"), None)
        if fault is not None and fault.kind in _PASSED_ON_ERRORS:
            return self._send_spoilt(fault, _Reply(code, kept, content), environ, start_response)
        length = int(declared) if declared and environ["REQUEST_METHOD"] == "HEAD" else None
        start_response(status, [*kept, *self._dated(length or len(content))])
        return [content]

    def _caller(self, environ: WSGIEnvironment) -> str:
        """Return the account whose credentials signed a request."""
        role = re.search(r"Credential=(ASIA[^/]+)", environ.get("HTTP_AUTHORIZATION", ""))
        if role is None:
            return self.organization.audit_account_id
        from moto.iam.models import get_account_id_from

        return get_account_id_from(role.group(1))

    def _as_audit_account(self, environ: WSGIEnvironment) -> None:
        """Let plain credentials be those of the audit account; a role's belong to its account."""
        role = "Credential=ASIA" in environ.get("HTTP_AUTHORIZATION", "")
        if not role:
            environ.setdefault("HTTP_X_MOTO_ACCOUNT_ID", self.organization.audit_account_id)

    # Replies

    def _dated(self, length: int) -> list[tuple[str, str]]:
        moment = email.utils.format_datetime(self.clock.now(), usegmt=True)
        return [("Date", moment), ("Content-Length", str(length))]

    def _send(
        self, reply: _Reply, start_response: StartResponse, length: int | None = None
    ) -> list[bytes]:
        reason = _REASONS.get(reply.status, "Simulated")
        headers = [*reply.headers, *self._dated(len(reply.body) if length is None else length)]
        start_response(f"{reply.status} {reason}", headers)
        return [reply.body]

    def _log(self, call: dict[str, Any], status: int) -> None:
        with self._lock:
            moment = self.clock.now().isoformat()
            self._calls.append({"at": moment, **call, "status": status})

    # The control path

    def _control(self, method: str, path: str, body: bytes) -> _Reply:
        try:
            return self._control_answer(method, path.removeprefix(CONTROL_PATH), body)
        except (ValueError, TypeError) as error:
            return _control_reply({"error": str(error)}, 400)

    def _control_answer(self, method: str, name: str, body: bytes) -> _Reply:
        if name == "clock":
            if method == "POST":
                moment = _json_value(body).get("now")
                if moment is None:
                    self.clock.reset()
                else:
                    self.clock.set(dt.datetime.fromisoformat(str(moment)))
            elif method == "DELETE":
                self.clock.reset()
            return _control_reply({"now": self.clock.now().isoformat()})
        if name == "faults":
            if method == "POST":
                rules = json.loads(body)
                if not isinstance(rules, list):
                    rules = [rules]
                self.faults.add([Fault.from_mapping(rule) for rule in rules])
            elif method == "DELETE":
                self.faults.clear()
            return _control_reply({"rules": self.faults.remaining()})
        if name == "calls":
            if method == "DELETE":
                self.clear_calls()
            return _control_reply({"calls": self.calls()})
        if name == "health" and method == "GET":
            return _control_reply({"status": "ok"})
        return _control_reply({"error": f"{method} {CONTROL_PATH}{name} is unknown"}, 404)


def _read_body(environ: WSGIEnvironment) -> bytes:
    if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        return bytes(environ["wsgi.input"].read())
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        length = 0
    return bytes(environ["wsgi.input"].read(length)) if length else b""


def _json_value(body: bytes) -> dict[str, Any]:
    value = json.loads(body or b"{}")
    if not isinstance(value, dict):
        message = "expected a JSON object"
        raise SimulationSettingsError(message)
    return value


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body or b"{}")
    except msgspec.MsgspecError as error:
        raise ServiceError(code="SerializationException", message="The body is no JSON.") from error
    if not isinstance(value, dict):
        raise ServiceError(code="SerializationException", message="The body is no structure.")
    return value


def _control_reply(answer: dict[str, Any], status: int = 200) -> _Reply:
    return _Reply(status, [("Content-Type", _JSON)], json.dumps(answer).encode())


def _uri_group(matched: re.Match[str]) -> str:
    name, greedy = matched.groups()
    return f"(?P<{name}>{'.+' if greedy else '[^/]+'})"


def _query(environ: WSGIEnvironment, shape: StructureShape | None) -> dict[str, Any]:
    """Return the parameters in the query string, under the names of the service model."""
    given = urllib.parse.parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    params: dict[str, Any] = {}
    for name, member in shape.members.items() if shape else ():
        key = member.serialization.get("name", name)
        if member.serialization.get("location") != "querystring" or key not in given:
            continue
        values = given[key]
        if member.type_name == "list":
            params[name] = values
        elif member.type_name == "integer":
            params[name] = int(values[0]) if values[0].lstrip("-").isdigit() else values[0]
        elif member.type_name == "boolean":
            params[name] = values[0] == "true"
        else:
            params[name] = values[0]
    return params


def _summary(request: _Request) -> dict[str, Any]:
    """Return what the log keeps of a call: never findings or other bulk."""
    kept: dict[str, Any] = {
        "service": request.service,
        "region": request.region,
        "operation": request.operation,
    }
    if "Filters" in request.params:
        kept["filters"] = request.params["Filters"]
        shard = (request.params["Filters"] or {}).get("AwsAccountId")
        if isinstance(shard, list):
            kept["accounts"] = [f"{c.get('Comparison')} {c.get('Value')}" for c in shard]
    for name in ("NextToken", "MaxResults", "StandardsArn", "ConformancePackName"):
        if name in request.params:
            kept[name] = request.params[name]
    if isinstance(request.params.get("Findings"), list):
        kept["findings"] = len(request.params["Findings"])
    return kept


def _without_expressions(environ: WSGIEnvironment, params: dict[str, Any]) -> bytes:
    """Return the body of a request of metrics for the store, which knows no expressions."""
    if "json" not in environ.get("CONTENT_TYPE", ""):
        raise ServiceError(
            code="NotSimulatedException",
            message="Expressions are simulated for requests in JSON only",
            status=501,
        )
    body = json.dumps(cloudwatch_math.without_expressions(params)).encode()
    environ.pop("HTTP_CONTENT_ENCODING", None)
    environ["CONTENT_LENGTH"] = str(len(body))
    return body


def _passed_on_operation(environ: WSGIEnvironment, body: bytes) -> str:
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return str(target.rpartition(".")[2])
    path = environ.get("PATH_INFO", "/")
    rpc = re.match(r"^/service/\w+/operation/(\w+)$", path)
    if rpc:
        return rpc.group(1)
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        text = body
        if "gzip" in environ.get("HTTP_CONTENT_ENCODING", ""):
            import gzip

            text = gzip.decompress(body)
        action = urllib.parse.parse_qs(text.decode("utf-8", "replace")).get("Action")
        if action:
            return action[0]
    return f"{environ['REQUEST_METHOD']} {path}"


def _passed_on_error(error: ServiceError, environ: WSGIEnvironment) -> _Reply:
    """Return an error in the form that the request's protocol reads."""
    headers = [("x-amzn-ErrorType", error.code)]
    target = environ.get("HTTP_X_AMZ_TARGET")
    if target or "json" in environ.get("CONTENT_TYPE", ""):
        if environ.get("HTTP_X_AMZN_QUERY_MODE"):
            fault = "Sender" if error.status < 500 else "Receiver"
            headers.append(("x-amzn-query-error", f"{error.code};{fault}"))
        payload = json.dumps({"__type": error.code, "message": error.message}).encode()
        return _Reply(error.status, [("Content-Type", _JSON), *headers], payload)
    from xml.sax.saxutils import escape

    inner = f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
    if "x-www-form-urlencoded" in environ.get("CONTENT_TYPE", ""):
        text = f"<ErrorResponse><Error><Type>Sender</Type>{inner}</Error></ErrorResponse>"
    else:
        text = f"<Error>{inner}</Error>"
    return _Reply(error.status, [("Content-Type", "text/xml"), *headers], text.encode())


def _no_write(_: bytes) -> None:
    return None


def _reset(environ: WSGIEnvironment) -> list[bytes]:
    """Cut the connection hard: the client sees a reset and no reply."""
    connection: socket.socket | None = environ.get("werkzeug.socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The socket's files hold the descriptor open: only closing it outright sends the reset.
        os.close(connection.detach())
    raise ConnectionAbortedError
