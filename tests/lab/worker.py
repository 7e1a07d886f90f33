"""A program that changes a lab without end and prints each change once it was acknowledged; a test kills it.

Each line is a JSON list: the kind of change, and what it takes to find it again.
"""

from __future__ import annotations

import base64
import json
import os
import random

from sealwax.lab import Lab


def main(folder: str, seed: int) -> None:
    chosen = random.Random(seed)
    lab = Lab(folder)
    key = lab.create_key()["KeyId"]
    say("key", key)
    number = 0
    while True:
        number += 1
        step = chosen.randrange(7)
        if step == 0:
            key = lab.create_key()["KeyId"]
            say("key", key)
        elif step == 1:
            name = f"alias/{seed}-{number}"
            lab.call("CreateAlias", AliasName=name, TargetKeyId=key)
            say("alias", name, key)
        elif step == 2:
            grant = lab.call(
                "CreateGrant", KeyId=key, GranteePrincipal="arn:aws:iam::111122223333:root", Operations=["Encrypt"]
            )
            say("grant", key, grant["GrantId"])
        elif step == 3:
            policy = json.loads(lab.call("GetKeyPolicy", KeyId=key)["Policy"])
            policy["Id"] = f"policy-{number}"
            text = json.dumps(policy)
            lab.call("PutKeyPolicy", KeyId=key, Policy=text)
            say("policy", key, text)
        elif step == 4:
            try:
                lab.call("RotateKeyOnDemand", KeyId=key)
            except Exception as error:
                if "LimitExceeded" not in str(error):
                    raise
                continue
            say("material", key, lab.call("DescribeKey", KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"])
        else:
            plaintext = f"{seed} {number}".encode()
            answer = lab.call("Encrypt", KeyId=key, Plaintext=base64.b64encode(plaintext).decode())
            say("blob", base64.b64encode(answer["CiphertextBlob"]).decode(), plaintext.decode())


def say(*change: str) -> None:
    os.write(1, (json.dumps(change) + "\n").encode())
