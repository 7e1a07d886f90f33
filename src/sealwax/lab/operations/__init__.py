"""The operations of KMS, a family a file. Importing this package fills :data:`sealwax.lab.call.OPERATIONS`."""

from sealwax.lab.operations import aliases, crypto, keys

__all__ = ["aliases", "crypto", "keys"]
