"""AWS KMS as a keyring: names of keys, the allow-list, and :class:`KmsKeyring`."""

from sealwax.kms.calls import Retries
from sealwax.kms.keyring import KmsKeyring
from sealwax.kms.multi import MultiRegionKeyring, RegionState
from sealwax.kms.names import KeyScope
from sealwax.kms.rate import RateLimit

__all__ = ["KeyScope", "KmsKeyring", "MultiRegionKeyring", "RateLimit", "RegionState", "Retries"]
