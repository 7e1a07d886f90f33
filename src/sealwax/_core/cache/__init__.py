"""CachingKeyring: a keyring around a keyring that asks KMS once and lends one data key many times, within bounds."""

from sealwax._core.cache.entries import CacheStats, CacheWarning
from sealwax._core.cache.keyring import CachingKeyring

__all__ = ["CacheStats", "CacheWarning", "CachingKeyring"]
