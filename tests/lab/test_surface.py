"""The table of parameters says what botocore's service model says."""

from __future__ import annotations

import pytest
from botocore.model import ListShape, MapShape, Shape, StructureShape

from sealwax.lab import _shapes
from sealwax.lab._api_model import SURFACE, UNSUPPORTED
from sealwax.lab._call import OPERATIONS
from tests.lab.validator import model

# What the lowest version of botocore that is allowed does not know yet.
LATER = {"ListKeys": {"ResourceOwners"}}


def test_every_operation_of_kms_is_served_or_refused_by_name() -> None:
    assert set(SURFACE) | UNSUPPORTED == set(model("kms").operation_names)
    assert not set(SURFACE) & UNSUPPORTED
    assert set(OPERATIONS) == set(SURFACE)


@pytest.mark.parametrize("name", sorted(SURFACE))
def test_parameters_and_bounds_are_those_of_the_model(name: str) -> None:
    shape = model("kms").operation_model(name).input_shape
    assert isinstance(shape, StructureShape) or shape is None
    _compare(SURFACE[name], shape, name)


def _compare(ours: _shapes.Shape, theirs: Shape | None, path: str) -> None:
    if theirs is None:
        assert isinstance(ours, _shapes.Structure)
        assert not ours.members
        return
    assert ours.kind == theirs.type_name, path
    limits = theirs.metadata
    if isinstance(ours, _shapes.Structure):
        assert isinstance(theirs, StructureShape)
        assert set(ours.members) - set(theirs.members) <= LATER.get(path, set()), path
        assert set(theirs.members) <= set(ours.members), path
        assert ours.required == set(theirs.required_members), path
        for name, member in theirs.members.items():
            _compare(ours.members[name], member, f"{path}.{name}")
    elif isinstance(ours, _shapes.Items):
        assert isinstance(theirs, ListShape)
        assert (ours.least, ours.most) == (limits.get("min", 0), limits.get("max")), path
        _compare(ours.member, theirs.member, f"{path}[]")
    elif isinstance(ours, _shapes.Pairs):
        assert isinstance(theirs, MapShape)
    elif isinstance(ours, _shapes.Text):
        assert (ours.least, ours.most) == (limits.get("min", 0), limits.get("max")), path
        assert ours.pattern == limits.get("pattern"), path
        assert list(ours.enum) == limits.get("enum", []), path
    elif isinstance(ours, _shapes.Blob | _shapes.Number):
        assert (ours.least, ours.most) == (limits["min"], limits["max"]), path
