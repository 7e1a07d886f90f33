"""S3: objects as files, and prefixes as stores of envelopes.

:class:`ObjectReader` and :class:`ObjectWriter` are binary file objects, which :meth:`sealwax.Sealer.open` takes::

    with s3.ObjectWriter("s3://bucket/backup.swx") as object, sealer.open(object, "wb", context=context) as file:
        file.write(b"...")
    with s3.ObjectReader("s3://bucket/backup.swx") as object, sealer.open(object, context=context) as file:
        file.seek(10**9)

Credentials, Region and endpoint are boto3's (AWS_ENDPOINT_URL_S3 names another server). The IAM actions are those
that S3 names after its requests: s3:GetObject to read, s3:ListBucket to list, s3:PutObject and
s3:AbortMultipartUpload to write, and to change an object also s3:GetObjectTagging and s3:PutObjectTagging.
"""

from sealwax.stores.s3._objects import ObjectReader, ObjectWriter
from sealwax.stores.s3._service import ObjectName, Service, parse
from sealwax.stores.s3._store import S3Store, open_store

__all__ = ["ObjectName", "ObjectReader", "ObjectWriter", "S3Store", "Service", "open_store", "parse"]
