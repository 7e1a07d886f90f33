"""AWS KMS keyrings.

``KmsKeyring`` uses keys of one or more Regions, ``MultiRegionKeyring`` survives the loss of a Region. ``KeyScope``
allows every key of an account and Region for decryption, ``RetryPolicy`` and ``RateLimit`` bound the requests to KMS,
``RegionState`` says whether a Region is in use, and ``Session`` is the part of ``boto3.Session`` that keyrings need.
"""

from sealwax._aws.session import Session
from sealwax.kms._calls import RetryPolicy
from sealwax.kms._keyring import KmsKeyring
from sealwax.kms._multi_region import MultiRegionKeyring, RegionState
from sealwax.kms._names import KeyScope
from sealwax.kms._rate import RateLimit

__all__ = ["KeyScope", "KmsKeyring", "MultiRegionKeyring", "RateLimit", "RegionState", "RetryPolicy", "Session"]
