"""Take docs/pictures/audit.png, the page of an audit: python docs/make_audit_picture.py

The account is a lab with four keys, three of them misconfigured; the browser is a Chromium without a window.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from pathlib import Path

from sealwax import audit
from sealwax.lab import Lab

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs/pictures/audit.png"
SIZE = (1200, 1150)
_OWN = "arn:aws:iam::111122223333:root"
# Who else may use a key, by its alias: everybody, another account, nobody.
_OTHERS = {"payments": "*", "partners": "arn:aws:iam::444455556666:root", "backups": None, "archive": None}
_ABSENT = dict.fromkeys(
    ("iam", "events", "logs", "cloudwatch", "cloudtrail:DescribeTrails"), "the lab does not have this"
)


def make_keys(lab: Lab) -> None:
    """Make keys that are used by too many, or not rotated, and a good one."""
    kms = lab.session().client("kms")
    for name, other in _OTHERS.items():
        key = lab.create_key(alias=name)["KeyId"]
        allowed = {_OWN: ["kms:*"], **({other: ["kms:Decrypt", "kms:GenerateDataKey"]} if other else {})}
        statements = [
            {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": actions, "Resource": "*"}
            for principal, actions in allowed.items()
        ]
        kms.put_key_policy(KeyId=key, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))
        if name != "backups":
            kms.enable_key_rotation(KeyId=key)


def main() -> None:
    """Audit the lab, and take the picture."""
    sys.path.insert(0, str(ROOT))
    from tests.browser import open_browser

    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "audit.html"
        with Lab(Path(folder) / "lab") as lab:
            make_keys(lab)
            facts = audit.gather(lab.session(), ["us-east-1"], unavailable=_ABSENT)
        page.write_text(audit.render(audit.run(facts), "html"), encoding="utf-8")
        with open_browser(Path(folder) / "chromium") as browser:
            browser.resize(*SIZE)
            browser.send("Emulation.setScrollbarsHidden", hidden=True)
            browser.open(page)
            browser.run("document.querySelector('#findings details').open = true")
            PICTURE.write_bytes(base64.b64decode(browser.send("Page.captureScreenshot", format="png")["data"]))


if __name__ == "__main__":
    main()
