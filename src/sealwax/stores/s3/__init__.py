"""S3 objects as binary files, which ``Sealer.open`` accepts, and prefixes as stores of envelopes.

Credentials, Region and endpoint are boto3's; AWS_ENDPOINT_URL_S3 names another server. The IAM actions are s3:GetObject
to read, s3:ListBucket to list, s3:PutObject and s3:AbortMultipartUpload to write, and s3:PutObjectTagging to write
tags; to change an object, all of them except s3:ListBucket, and s3:GetObjectTagging.

Example:
    >>> with s3.ObjectWriter("s3://vault/a.swx") as sink, sealer.open(sink, "wb", context=context) as file:
    ...     file.write(b"...")
    >>> with s3.ObjectReader("s3://vault/a.swx") as source, sealer.open(source, context=context) as file:
    ...     file.seek(10**9)
"""

from sealwax.stores.s3._reader import ObjectReader
from sealwax.stores.s3._service import ObjectName, Service
from sealwax.stores.s3._store import S3Store
from sealwax.stores.s3._writer import ObjectWriter

__all__ = ["ObjectName", "ObjectReader", "ObjectWriter", "S3Store", "Service"]
