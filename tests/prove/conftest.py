"""A lab with a key to prove, and a layer between botocore and the lab that makes KMS break its promises."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse

from sealwax.lab import Lab, Server
from sealwax.prove import Helper

Parameters = Callable[[str, dict[str, Any]], None]
Answer = Callable[[str, dict[str, Any], dict[str, Any]], None]
Refuse = Callable[[str, str], str | None]

OPERATIONS = (
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "Encrypt",
    "Decrypt",
    "ReEncrypt",
    "DescribeKey",
    "RotateKeyOnDemand",
)


@dataclass
class Doctored:
    """A session whose KMS is asked and answers otherwise.

    Attributes:
        asked: changes a request's parameters before it is signed.
        answered: changes the document of an answer, given the request and its Region.
        refused: names the error code that an operation in a Region is refused with, or None; KMS then is not asked.
    """

    session: boto3.Session
    asked: Parameters = lambda *_: None
    answered: Answer = lambda *_: None
    refused: Refuse = lambda *_: None
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def region_name(self) -> str | None:
        return self.session.region_name

    def client(self, service_name: Any, *, region_name: str | None = None, config: Any = None) -> Any:
        client = self.session.client(service_name, region_name=region_name, config=config)
        for operation in OPERATIONS:

            def ask(params: dict[str, Any], operation: str = operation, **_: Any) -> None:
                self.asked(operation, params)
                self.last = {**params, "Region": client.meta.region_name}

            def refuse(operation: str = operation, **_: Any) -> tuple[AWSResponse, dict[str, Any]] | None:
                code = self.refused(operation, client.meta.region_name)
                if code is None:
                    return None
                headers: Any = {}
                return AWSResponse("", 400, headers, None), {"Error": {"Code": code}, "ResponseMetadata": {}}

            def answer(response_dict: dict[str, Any], operation: str = operation, **_: Any) -> None:
                # What botocore takes for an error is decided by the response's status, which is not in the dictionary.
                if response_dict["status_code"] == 200:
                    document = json.loads(response_dict["body"])
                    self.answered(operation, document, self.last)
                    response_dict["body"] = json.dumps(document).encode()

            client.meta.events.register_first(f"before-parameter-build.kms.{operation}", ask)
            client.meta.events.register_first(f"before-call.kms.{operation}", refuse)
            client.meta.events.register_first(f"before-parse.kms.{operation}", answer)
        return client


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("prove") / "lab") as opened:
        opened.create_key(alias="well-set")
        opened.create_key(alias="other")
        primary = opened.call("CreateKey", MultiRegion=True)["KeyMetadata"]
        opened.call("CreateAlias", AliasName="alias/many", TargetKeyId=primary["KeyId"])
        opened.call("ReplicateKey", KeyId=primary["KeyId"], ReplicaRegion="eu-west-1")
        opened.add_principal("nobody")
        opened.add_principal(
            "somebody",
            policy={
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}],
            },
        )
        yield opened


@pytest.fixture(scope="session")
def helper(lab: Lab) -> Iterator[Helper]:
    server = Server(lab)
    serving = threading.Thread(target=server.serve)
    serving.start()
    credentials = lab.session().get_credentials()
    assert credentials is not None
    yield Helper(
        {
            "AWS_ENDPOINT_URL_KMS": server.url,
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
        }
    )
    server.close()
    serving.join()
