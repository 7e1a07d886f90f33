"""The lab: a KMS in a folder, for trying, testing and rehearsing without an AWS account.

::

    from sealwax.lab import Lab

    with Lab("lab") as lab:
        lab.create_key(alias="payments")
        kms = lab.session().client("kms")
        kms.generate_data_key(KeyId="alias/payments", KeySpec="AES_256")

``Server`` and ``sealwax lab serve`` offer the same over HTTP, for the AWS CLI and other SDKs.
"""

from sealwax.lab._faults import Fault, Faults
from sealwax.lab._lab import Lab
from sealwax.lab._server import Server
from sealwax.lab._trail import Event, Trail

__all__ = ["Event", "Fault", "Faults", "Lab", "Server", "Trail"]
