"""The handlers of KMS's operations. Importing this package registers them in ``sealwax.lab._call.OPERATIONS``."""

from sealwax.lab._operations import aliases, crypto, grants, imports, keys, policies, regions, rotation, tags

__all__ = ["aliases", "crypto", "grants", "imports", "keys", "policies", "regions", "rotation", "tags"]
