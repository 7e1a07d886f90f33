"""KMS's operations and the bounds of their parameters, read from the service model that botocore ships.

The file is read once per process, without importing botocore's code. tests/lab/kms_model.txt pins what is read from it,
so a new botocore cannot change the lab unnoticed.
"""

from __future__ import annotations

import gzip
import json
import pkgutil
from functools import cache
from typing import Required, TypedDict

from sealwax.errors import LabError
from sealwax.lab._shapes import Blob, Flag, Items, Moment, Number, Pairs, Shape, Structure, Text

_FILE = "data/kms/2014-11-01/service-2.json.gz"
# The lowest botocore that pyproject.toml allows does not have it yet.
_RESOURCE_OWNERS = Items(Text(enum=("SELF", "OTHER_ACCOUNTS_VIA_RAM")), 1, 2)


class _Reference(TypedDict):
    shape: str


class _Shape(TypedDict, total=False):
    type: Required[str]
    members: dict[str, _Reference]
    required: list[str]
    member: _Reference
    min: int
    max: int
    pattern: str
    enum: list[str]


class _Operation(TypedDict):
    input: _Reference


class _Model(TypedDict):
    operations: dict[str, _Operation]
    shapes: dict[str, _Shape]


@cache
def _model() -> _Model:
    packed = pkgutil.get_data("botocore", _FILE)
    if packed is None:
        raise LabError(f"botocore's {_FILE} cannot be read; reinstall botocore")
    model: _Model = json.loads(gzip.decompress(packed))
    return model


def operations() -> frozenset[str]:
    """The names of all operations of KMS, including those that the lab does not serve."""
    return frozenset(_model()["operations"])


@cache
def parameters(operation: str) -> Structure:
    """The parameters of an operation."""
    structure = _shape(_model()["operations"][operation]["input"]["shape"])
    assert isinstance(structure, Structure)
    if operation == "ListKeys":
        return Structure({"ResourceOwners": _RESOURCE_OWNERS, **structure.members}, structure.required)
    return structure


def _shape(name: str) -> Shape:
    shape = _model()["shapes"][name]
    least, most = shape.get("min", 0), shape.get("max")
    match shape["type"]:
        case "structure":
            members = {member: _shape(reference["shape"]) for member, reference in shape["members"].items()}
            return Structure(members, frozenset(shape.get("required", ())))
        case "list":
            return Items(_shape(shape["member"]["shape"]), least, most)
        case "string":
            return Text(least, most, shape.get("pattern"), tuple(shape.get("enum", ())))
        case "blob":
            return Blob(least, most)
        case "integer":
            return Number(least, most)
        case kind:
            return {"map": Pairs, "boolean": Flag, "timestamp": Moment}[kind]()
