"""A live account: KMS and STS are the lab, everything else is moto's server."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import boto3
import botocore.exceptions
from moto.server import ThreadedMotoServer

from sealwax.lab import Lab

ACCOUNT: Final = "123456789012"  # moto's
REGION: Final = "us-east-1"
# The lab answers these; moto answers the rest.
LAB: Final = ("kms", "sts")


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Session:
    """A session that counts which actions are asked for, refuses some, and may be killed.

    Attributes:
        code: how it refuses.
        left: how many calls are made before it is killed; None: it is not.
    """

    lab: Lab
    url: str
    denied: frozenset[str] = frozenset()
    code: str = "AccessDeniedException"
    left: int | None = None
    asked: Counter[str] = field(default_factory=Counter)
    _lock: Any = field(default_factory=threading.Lock)

    region_name = REGION

    def client(self, service_name: Any, **options: Any) -> Any:
        if service_name in LAB:
            client = self.lab.session(account=ACCOUNT).client(service_name, **options)
        else:
            options["region_name"] = options.get("region_name") or REGION
            client = boto3.client(
                service_name, endpoint_url=self.url, aws_access_key_id="x", aws_secret_access_key="x", **options
            )
        client.meta.events.register("before-call.*.*", self._before)
        return client

    def _before(self, model: Any, **_: Any) -> None:
        action = f"{model.service_model.signing_name.replace('monitoring', 'cloudwatch')}:{model.name}"
        with self._lock:
            if self.left == 0:
                raise Killed
            self.left = None if self.left is None else self.left - 1
            self.asked[action] += 1
        if action in self.denied:
            answer: Any = {"Error": {"Code": self.code, "Message": "on purpose"}}
            raise botocore.exceptions.ClientError(answer, model.name)


@contextmanager
def account(folder: Path) -> Iterator[tuple[Lab, str]]:
    """Lend an empty account: its lab, and the address of its moto."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    try:
        with Lab(folder / "lab") as lab:
            _empty(url)
            yield lab, url
    finally:
        _empty(url)
        server.stop()


def _empty(url: str) -> None:
    # What moto holds is the process's, and other modules have servers too.
    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST")).close()


def put_rule(events: Any, pattern: Mapping[str, Any]) -> None:
    """Have EventBridge tell people of events."""
    events.put_rule(Name="ends", EventPattern=json.dumps(pattern))
    people = f"arn:aws:sns:{events.meta.region_name}:{ACCOUNT}:people"
    events.put_targets(Rule="ends", Targets=[{"Id": "1", "Arn": people}])


def put_filter(logs: Any, pattern: str) -> None:
    """Have CloudWatch count events as the metric keys/ends."""
    logs.create_log_group(logGroupName="trail")
    to = {"metricName": "ends", "metricNamespace": "keys", "metricValue": "1"}
    logs.put_metric_filter(logGroupName="trail", filterName="ends", filterPattern=pattern, metricTransformations=[to])
