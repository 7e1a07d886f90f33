"""A lab that answers slowly over HTTP or TLS, and S3 beside it, for programs that fork."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sealwax.lab import Lab, Server
from tests.s3 import StrictS3

REPOSITORY: Final = Path(__file__).parents[2]
NEAR, FAR = "us-east-1", "eu-west-1"
# So that requests of several processes are under way at once.
LATENCY_MILLISECONDS: Final = 20.0
SECRET: Final = "the-secret-access-key-of-the-tests"


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1; return the files of it and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@contextlib.contextmanager
def serving(folder: Path, *, tls: bool = False, s3: bool = False, latency: float = 0.0) -> Iterator[dict[str, str]]:
    """Serve a lab with the alias ``alias/demo`` and a multi-Region key; yield the environment of its clients."""
    files = certificate(folder) if tls else None
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab(folder / "lab"))
        lab.create_key(alias="demo")
        key = lab.call("CreateKey", region=NEAR, MultiRegion=True)["KeyMetadata"]["Arn"]
        lab.call("ReplicateKey", region=NEAR, KeyId=key, ReplicaRegion=FAR)
        if latency:
            for region in (NEAR, FAR):
                lab.faults.add(region, "latency", latency, operation=None, code=None, seed=1)
        server = Server(lab, tls=files)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.close)
        environment = {
            "AWS_ENDPOINT_URL_KMS": server.url,
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": NEAR,
            "AWS_CONFIG_FILE": str(folder / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "MULTI_REGION_KEY": key,
            "INDEPENDENT_KEYS": " ".join(
                lab.call("CreateKey", region=region)["KeyMetadata"]["Arn"] for region in (NEAR, FAR)
            ),
        }
        if files is not None:
            environment["AWS_CA_BUNDLE"] = str(files[0])
        if s3:
            strict = stack.enter_context(StrictS3())
            strict.bucket()
            environment["AWS_ENDPOINT_URL_S3"] = strict.url
        yield environment


def program(
    arguments: list[str], environment: dict[str, str], seconds: float = 300.0
) -> subprocess.CompletedProcess[str]:
    """Run a Python program. It is killed, and the test fails, where it does not end."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SEALWAX_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def run(arguments: list[str], environment: dict[str, str], seconds: float = 300.0) -> Any:
    """Run a Python program; return the JSON that it prints last."""
    done = program(arguments, environment, seconds)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
