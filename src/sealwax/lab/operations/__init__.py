"""The operations of KMS, a family a file. Importing this package fills :data:`sealwax.lab.call.OPERATIONS`."""

from sealwax.lab.operations import (
    aliases,
    crypto,
    grants,
    imports,
    keys,
    policies,
    regions,
    rotation,
    stores,
    tags,
)

__all__ = ["aliases", "crypto", "grants", "imports", "keys", "policies", "regions", "rotation", "stores", "tags"]
