"""The operations of KMS, a family a file. Importing this package fills :data:`sealwax.lab._call.OPERATIONS`."""

from sealwax.lab._operations import aliases, crypto, grants, imports, keys, policies, regions, rotation, stores, tags

__all__ = ["aliases", "crypto", "grants", "imports", "keys", "policies", "regions", "rotation", "stores", "tags"]
