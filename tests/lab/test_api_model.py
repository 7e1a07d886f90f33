"""The parameters that the lab takes from botocore's service model are pinned, so upgrades cannot change them unnoticed.

After an upgrade, look at what changed and write the new table:
``python -c "from tests.lab.test_api_model import *; TABLE.write_text(table())"``.
"""

from __future__ import annotations

from pathlib import Path

import sealwax.lab._engine  # noqa: F401 - registers the operations
from sealwax.lab import _api_model, _shapes
from sealwax.lab._call import OPERATIONS

TABLE = Path(__file__).with_name("kms_model.txt")
NOT_OFFERED = {
    *("Sign", "Verify", "GetPublicKey", "GenerateMac", "VerifyMac", "DeriveSharedSecret"),
    *("GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext", "Encapsulate", "Decapsulate"),
    *("CreateCustomKeyStore", "DescribeCustomKeyStores", "ConnectCustomKeyStore", "DisconnectCustomKeyStore"),
    *("DeleteCustomKeyStore", "UpdateCustomKeyStore"),
}


def lines(path: str, shape: _shapes.Shape, required: str = "") -> list[str]:
    """One line per parameter: its path, kind and bounds."""
    if isinstance(shape, _shapes.Structure):
        inner = [
            line
            for name in sorted(shape.members)
            for line in lines(f"{path}.{name}", shape.members[name], "!" if name in shape.required else "")
        ]
        return [f"{path}{required} Structure", *inner]
    if isinstance(shape, _shapes.Items):
        return [f"{path}{required} Items {shape.least}..{shape.most}", *lines(f"{path}[]", shape.member)]
    limits = "".join(f" {name}={value}" for name, value in vars(shape).items() if value not in (None, ()))
    return [f"{path}{required} {type(shape).__name__}{limits}"]


def table() -> str:
    return "".join(f"{line}\n" for name in sorted(OPERATIONS) for line in lines(name, _api_model.parameters(name)))


def test_every_operation_of_kms_is_offered_or_known_not_to_be() -> None:
    assert set(OPERATIONS) | NOT_OFFERED == _api_model.operations()
    assert not set(OPERATIONS) & NOT_OFFERED


def test_parameters_and_bounds_are_those_of_the_table() -> None:
    pinned = TABLE.read_text()
    assert len(pinned.splitlines()) == 215
    assert table() == pinned


def test_a_botocore_without_resource_owners_does_not_take_the_parameter_away() -> None:
    assert _api_model.parameters("ListKeys").members["ResourceOwners"] == _shapes.Items(
        _shapes.Text(enum=("SELF", "OTHER_ACCOUNTS_VIA_RAM")), 1, 2
    )
