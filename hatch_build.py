"""What the package says of itself on PyPI: where it comes from, and a README whose links work there.

The repository is the one whose workflow builds it, as GitHub says in its variables. Built elsewhere, the README stays
as it is, and no URL is claimed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Links(MetadataHookInterface):
    """Sets ``readme`` and ``urls``."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        server, repository = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
        metadata["urls"] = {}
        if server and repository:
            home = f"{server}/{repository}"
            files = f"{home}/blob/v{metadata['version']}"
            pictures = f"{home}/raw/v{metadata['version']}"
            text = re.sub(r"(!\[[^\]]*\])\((?!https?:)([^)]+)\)", rf"\1({pictures}/\2)", text)
            text = re.sub(r"\]\((?!https?:|#)([^)]+)\)", rf"]({files}/\1)", text)
            metadata["urls"] = {
                "Source": home,
                "Documentation": f"{files}/README.md",
                "Changelog": f"{files}/CHANGELOG.md",
                "Issues": f"{home}/issues",
                "Security": f"{home}/security/policy",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
