"""Draw the pictures of the pages, docs/pictures/*.svg: python docs/make_pictures.py

Each is 480 wide, so that its text can be read on a phone, has a ground of its own, and is dark where the reader's
system is. There is no script, font or style from elsewhere in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

FOLDER = Path(__file__).with_name("pictures")
WIDTH = 480
_STYLE = """
    svg { --ground: #ffffff; --ink: #1f2430; --soft: #5b6475; --line: #9aa4b5; --box: #f2f4f8;
          --key: #fff0c2; --keyline: #b98900; --data: #dcebff; --dataline: #3d73c4; }
    @media (prefers-color-scheme: dark) {
      svg { --ground: #14171f; --ink: #e8ebf2; --soft: #a3adbf; --line: #6b7588; --box: #212632;
            --key: #453a14; --keyline: #d9b13b; --data: #1b314f; --dataline: #77a7ee; }
    }
    text { font: 15px system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; fill: var(--ink); }
    .title { font-weight: 600; }
    .soft { fill: var(--soft); font-size: 13.5px; }
    .ground { fill: var(--ground); }
    .box { fill: var(--box); stroke: var(--line); }
    .key { fill: var(--key); stroke: var(--keyline); }
    .data { fill: var(--data); stroke: var(--dataline); }
    .frame { fill: none; stroke: var(--line); stroke-dasharray: 5 4; }
    .arrow { fill: none; stroke: var(--soft); stroke-width: 1.6; marker-end: url(#tip); }
    #tip path { fill: var(--soft); }
"""


@dataclass
class Picture:
    """One drawing. Boxes and words are placed by hand, from the top left."""

    name: str
    title: str
    says: str
    height: int
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> None:
        named = f' class="{kind}"' if kind else ""
        self.parts.append(f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{named}>{escape(words)}</text>')

    def box(self, x: float, y: float, width: float, height: float, kind: str, title: str, *lines: str) -> None:
        """Draw a box with a title and smaller lines below it, in its middle."""
        self.parts.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="7"/>')
        top = y + height / 2 - 9.5 * len(lines) + 5
        self.text(x + width / 2, top, title, "title")
        for number, line in enumerate(lines, 1):
            self.text(x + width / 2, top + 19 * number, line, "soft")

    def frame(self, x: float, y: float, width: float, height: float, title: str) -> None:
        """Draw what belongs together: a broken line, with a title in its corner."""
        self.parts.append(f'<rect class="frame" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="10"/>')
        self.text(x + 14, y + 23, title, "title", "start")

    def arrow(self, *points: tuple[float, float]) -> None:
        path = " L".join(f"{x:g} {y:g}" for x, y in points)
        self.parts.append(f'<path class="arrow" d="M{path}"/>')

    def svg(self) -> str:
        body = "\n  ".join(self.parts)
        size = f'viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" height="{self.height}"'
        return f"""<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title says">
  <title id="title">{escape(self.title)}</title>
  <desc id="says">{escape(self.says)}</desc>
  <style>{_STYLE}  </style>
  <defs>
    <marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse">
      <path d="M0 0 L10 5 L0 10 z"/>
    </marker>
  </defs>
  <rect class="ground" width="{WIDTH}" height="{self.height}" rx="12"/>
  {body}
</svg>
"""


def envelope() -> Picture:
    """Return how data is encrypted, and what an envelope holds."""
    picture = Picture(
        "envelope",
        "An envelope",
        "KMS generates a data key and wraps it under the KMS key. The program encrypts the data with the data key, and "
        "stores the context, the wrapped key and the encrypted data together.",
        450,
    )
    picture.frame(16, 16, 186, 232, "Your program")
    picture.frame(280, 16, 184, 232, "AWS KMS")
    picture.box(290, 56, 164, 62, "key", "KMS key", "never leaves KMS")
    picture.box(290, 166, 164, 62, "box", "GenerateDataKey", "checks, and logs")
    picture.arrow((372, 118), (372, 164))
    picture.box(30, 56, 158, 46, "data", "your data")
    picture.box(30, 166, 158, 62, "box", "AES-256-GCM", "under the data key")
    picture.arrow((109, 102), (109, 164))
    picture.arrow((288, 197), (190, 197))
    picture.text(241, 152, "data key,", "soft")
    picture.text(241, 170, "wrapped", "soft")
    picture.text(241, 188, "and plain", "soft")
    picture.arrow((109, 248), (109, 290))
    picture.frame(16, 292, 448, 142, "The envelope: one file, object or value")
    picture.box(30, 330, 118, 88, "box", "context", "purpose=", "backup")
    picture.box(156, 330, 130, 88, "key", "wrapped key", "only KMS can", "unwrap it")
    picture.box(294, 330, 156, 88, "data", "encrypted data", "any size; every", "byte is checked")
    return picture


def rewrap() -> Picture:
    """Return what re-wrapping replaces, and what re-encrypting does."""
    picture = Picture(
        "rewrap",
        "Re-wrapping against re-encrypting",
        "Re-wrapping replaces the wrapped key by one call to KMS; the encrypted data stays as it is. Re-encrypting "
        "makes a new data key and encrypts all data again.",
        500,
    )
    for top, title, data, lines in (
        (16, "Re-wrap: one call to KMS, whatever the size", "the same data", ("not one byte changes",)),
        (262, "Re-encrypt: every byte is read and written", "new encrypted data", ("under a new data key",)),
    ):
        picture.frame(16, top, 448, 222, title)
        picture.box(32, top + 42, 160, 62, "key", "wrapped key", "under the old key")
        picture.box(200, top + 42, 248, 62, "data", "encrypted data", "under its data key")
        picture.box(32, top + 144, 160, 62, "key", "wrapped key", "under the new key")
        picture.box(200, top + 144, 248, 62, "data", data, *lines)
        picture.arrow((112, top + 104), (112, top + 142))
        if top > 100:
            picture.arrow((324, top + 104), (324, top + 142))
            picture.text(336, top + 128, "decrypt, encrypt", "soft", "start")
            picture.text(124, top + 128, "new data key", "soft", "start")
        else:
            picture.text(124, top + 128, "kms:ReEncrypt", "soft", "start")
            picture.text(324, top + 128, "stays where it is", "soft")
    return picture


def records() -> Picture:
    """Return where the keys of records are."""
    picture = Picture(
        "records",
        "Records and their key store",
        "The KMS key wraps one data key for each scope. The key store keeps the wrapped data keys in a table. The data "
        "key of a scope seals the values of its rows. Rotating the KMS key re-wraps the rows of the key store only.",
        520,
    )
    picture.box(150, 16, 180, 58, "key", "KMS key", "in AWS KMS")
    picture.arrow((240, 74), (240, 112))
    picture.text(252, 98, "wraps a data key per scope", "soft", "start")
    picture.frame(16, 114, 448, 146, "The key store: a table of your database")
    picture.box(32, 150, 200, 62, "key", "tenant=acme", "wrapped data key")
    picture.box(248, 150, 200, 62, "key", "tenant=globex", "wrapped data key")
    picture.text(240, 242, "rotation re-wraps these rows, and no value", "soft")
    picture.arrow((62, 212), (62, 314))
    picture.arrow((418, 212), (418, 314))
    picture.text(240, 290, "seals, without a call to KMS", "soft")
    picture.frame(16, 316, 448, 188, "Your table: users")
    for x, tenant, number in ((32, "acme", 1), (248, "globex", 3)):
        for line in range(2):
            picture.box(x, 352 + 70 * line, 200, 60, "data", f"id {number + line}, {tenant}", "card: a sealed value")
    return picture


def fleet() -> Picture:
    """Return the steps of a fleet's run."""
    picture = Picture(
        "fleet",
        "A fleet's run",
        "Plan lists the envelopes and writes a plan file. Run re-wraps what is stale, and can be stopped and resumed. "
        "Verify lists everything again. Retire disables the old key once nothing is under it.",
        520,
    )
    steps = (
        ("fleet plan", ("reads the headers only,", "and says what it will cost"), "box"),
        ("fleet run --apply", ("kms:ReEncrypt for each stale", "envelope; stop and resume"), "key"),
        ("fleet verify", ("lists everything again,", "and decrypts some"), "box"),
        ("keys retire", ("refuses while anything", "is under the old key"), "key"),
    )
    picture.frame(16, 16, 160, 488, "Your envelopes")
    places = (("folders", "any file system"), ("S3", "buckets, prefixes"), ("key stores", "of records"))
    for number, (title, line) in enumerate(places):
        picture.box(30, 56 + 150 * number, 132, 108, "data", title, line)
    for number, (title, lines, kind) in enumerate(steps):
        top = 16 + 124 * number
        picture.box(236, top, 228, 92, kind, title, *lines)
        if number:
            picture.arrow((350, top - 32), (350, top - 2))
    picture.text(362, 128, "the plan, a file", "soft", "start")
    picture.arrow((178, 62), (234, 62))
    picture.arrow((178, 176), (234, 176))
    picture.arrow((236, 196), (178, 196))
    picture.arrow((178, 310), (234, 310))
    picture.arrow((178, 434), (234, 434))
    return picture


PICTURES = (envelope, rewrap, records, fleet)


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(exist_ok=True)
    for draw in PICTURES:
        picture = draw()
        (folder / f"{picture.name}.svg").write_text(picture.svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
