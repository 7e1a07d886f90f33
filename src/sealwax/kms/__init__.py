"""AWS KMS as a keyring: names of keys, the allow-list, and :class:`KmsKeyring`."""

from sealwax.kms.keyring import KmsKeyring
from sealwax.kms.names import KeyScope

__all__ = ["KeyScope", "KmsKeyring"]
