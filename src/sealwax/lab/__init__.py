"""The lab: an AWS KMS in a folder, to try, test and rehearse without an AWS account.

::

    from sealwax.lab import Lab

    with Lab("lab") as lab:
        lab.create_key(alias="payments")
        kms = lab.session().client("kms")
        kms.generate_data_key(KeyId="alias/payments", KeySpec="AES_256")

``Server`` and ``sealwax lab serve`` offer the same over HTTP, for the AWS CLI and other SDKs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sealwax.lab._faults import Fault, Faults
    from sealwax.lab._lab import Lab
    from sealwax.lab._server import Server
    from sealwax.lab._trail import Event, Trail

__all__ = ["Event", "Fault", "Faults", "Lab", "Server", "Trail"]

_MODULES: Final = {
    "Event": "_trail",
    "Fault": "_faults",
    "Faults": "_faults",
    "Lab": "_lab",
    "Server": "_server",
    "Trail": "_trail",
}


def __getattr__(name: str) -> object:
    # Every pytest run imports this package for its plugin; most never open a lab.
    if name in _MODULES:
        return getattr(import_module(f"sealwax.lab.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'sealwax.lab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
