"""Holds every answer of the lab against botocore's service model, on the wire, before botocore has parsed it."""

from __future__ import annotations

import base64
import json
import re
from functools import cache
from typing import Any

import botocore.session
from botocore.model import ServiceModel, Shape

from sealwax.lab._wire import HttpRequest, HttpResponse

# What any operation of an AWS service may answer, though no operation lists it.
COMMON_ERRORS = {
    "AccessDeniedException",
    "ExpiredTokenException",
    "IncompleteSignatureException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "NotAuthorizedException",
    "SerializationException",
    "ThrottlingException",
    "UnknownOperationException",
    "UnrecognizedClientException",
    "ValidationException",
}


@cache
def model(service: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(service)


def problems(shape: Shape | None, value: Any, path: str = "$") -> list[str]:
    """What is wrong with a JSON value as an instance of an output shape."""
    kind = "structure" if shape is None else shape.type_name
    found: list[str] = []
    limits: dict[str, Any] = {} if shape is None else shape.metadata
    if kind == "structure":
        members: dict[str, Shape] = {} if shape is None else shape.members  # type: ignore[attr-defined]
        required = [] if shape is None else shape.required_members
        if not isinstance(value, dict):
            return [f"{path}: no structure"]
        found += [f"{path}.{name}: missing" for name in required if name not in value]
        for name, item in value.items():
            if name not in members:
                found.append(f"{path}.{name}: unknown member")
            elif item is None:
                found.append(f"{path}.{name}: null")
            else:
                found += problems(members[name], item, f"{path}.{name}")
        return found
    assert shape is not None
    if kind == "list":
        if not isinstance(value, list):
            return [f"{path}: no list"]
        for at, item in enumerate(value):
            found += problems(shape.member, item, f"{path}[{at}]")  # type: ignore[attr-defined]
        return found
    if kind == "map":
        if not isinstance(value, dict):
            return [f"{path}: no map"]
        return [f"{path}.{name}: no text" for name, item in value.items() if not isinstance(item, str)]
    if kind == "boolean":
        return [] if isinstance(value, bool) else [f"{path}: no boolean"]
    if kind == "timestamp":
        right = isinstance(value, int | float) and not isinstance(value, bool)
        return [] if right else [f"{path}: no timestamp"]
    if kind in ("integer", "long"):
        if not isinstance(value, int) or isinstance(value, bool):
            return [f"{path}: no integer"]
        return _within(value, limits, path)
    if not isinstance(value, str):
        return [f"{path}: no text"]
    if kind == "blob":
        return _within(len(base64.b64decode(value, validate=True)), limits, path)
    found += _within(len(value), limits, path)
    if "enum" in limits and value not in limits["enum"]:
        found.append(f"{path}: {value} is not in the enum")
    if "pattern" in limits and value and re.fullmatch(limits["pattern"], value) is None:
        found.append(f"{path}: {value} does not match {limits['pattern']}")
    return found


def _within(size: int, limits: dict[str, Any], path: str) -> list[str]:
    if size < limits.get("min", size) or size > limits.get("max", size):
        return [f"{path}: {size} is out of bounds"]
    return []


def check(request: HttpRequest, response: HttpResponse) -> None:
    """Fail unless the answer to a KMS request is one that KMS could give."""
    target = request.headers.get("x-amz-target", "")
    if not target.startswith("TrentService."):
        return
    name = target.removeprefix("TrentService.")
    service = model("kms")
    document = json.loads(response.body) if response.body else {}
    if response.status == 200:
        found = problems(service.operation_model(name).output_shape, document)
        assert not found, f"{name}: {found}"
        return
    code = document["__type"]
    known = set(COMMON_ERRORS)
    if name in service.operation_names:
        known |= {shape.name for shape in service.operation_model(name).error_shapes}
        known |= {"UnsupportedOperationException"}
    assert code in known, f"{name} cannot answer {code}"
    assert set(document) <= {"__type", "message"}
