"""CachingKeyring: reuses data keys within bounds, so that KMS is called less often."""

from sealwax._core.cache.entries import CacheStats, CacheWarning
from sealwax._core.cache.keyring import CachingKeyring

__all__ = ["CacheStats", "CacheWarning", "CachingKeyring"]
