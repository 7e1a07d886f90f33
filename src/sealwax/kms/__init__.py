"""AWS KMS as a keyring: names of keys, the allow-list, and :class:`KmsKeyring`."""

from sealwax.kms._calls import RetryPolicy
from sealwax.kms._keyring import KmsKeyring
from sealwax.kms._multi_region import MultiRegionKeyring, RegionState
from sealwax.kms._names import KeyScope
from sealwax.kms._rate import RateLimit

__all__ = ["KeyScope", "KmsKeyring", "MultiRegionKeyring", "RateLimit", "RegionState", "RetryPolicy"]
