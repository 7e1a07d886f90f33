"""The real S3 Encryption Client as a program, since it needs other versions of its dependencies than the tests do.

It reads a job in JSON from each line of its input, and answers each with a line.
"""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

import boto3
from botocore.config import Config
from s3_encryption import S3EncryptionClient, S3EncryptionClientConfig
from s3_encryption.materials.kms_keyring import KmsKeyring
from s3_encryption.materials.materials import AlgorithmSuite, CommitmentPolicy

OLD = AlgorithmSuite.ALG_AES_256_GCM_IV12_TAG16_NO_KDF, CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT
NEW = AlgorithmSuite.ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY, CommitmentPolicy.REQUIRE_ENCRYPT_ALLOW_DECRYPT
SETTINGS: dict[str, Any] = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}


def serve(kms_url: str, s3_url: str) -> None:
    kms = boto3.client("kms", endpoint_url=kms_url, region_name="us-east-1", **SETTINGS)
    path = Config(s3={"addressing_style": "path"})
    for line in sys.stdin:
        job = json.loads(line)
        suite, policy = OLD if job.get("version") == 2 else NEW
        config = S3EncryptionClientConfig(
            KmsKeyring(kms, job["kms_key"]), encryption_algorithm=suite, commitment_policy=policy
        )
        # A new one each time: the S3 Encryption Client changes the client that it gets.
        plain = boto3.client("s3", endpoint_url=s3_url, region_name="us-east-1", config=path, **SETTINGS)
        client = S3EncryptionClient(plain, config)
        about = {"Bucket": "bucket", "Key": job["key"], "EncryptionContext": job["context"]}
        try:
            if "data" in job:
                client.put_object(Body=base64.b64decode(job["data"]), **about)
                answer = {}
            else:
                body = client.get_object(**about)["Body"].read()
                answer = {"data": base64.b64encode(body).decode()}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
