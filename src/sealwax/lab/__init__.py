"""The lab: a KMS in a folder, for trying, testing and rehearsing without an AWS account.

::

    from sealwax.lab import Lab

    with Lab("lab") as lab:
        lab.create_key(alias="payments")
        kms = lab.session().client("kms")
        kms.generate_data_key(KeyId="alias/payments", KeySpec="AES_256")

``sealwax lab serve`` is the same engine behind HTTP, for the AWS CLI and other SDKs.
"""

from sealwax.lab._lab import Lab

__all__ = ["Lab"]
