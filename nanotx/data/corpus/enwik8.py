"""enwik8: the first 100 million bytes of the English Wikipedia of March 2006, a common text for models of bytes.

Source: Mahoney, About the Test Data, http://mattmahoney.net/dc/textdata.html
"""

from dataclasses import dataclass
from pathlib import Path

from nanotx.data.corpus.base import Corpus
from nanotx.data.fetched import Fetched
from nanotx.data.resumable import LargeFile


@Corpus.register("enwik8")
@dataclass(frozen=True, kw_only=True)
class Enwik8(Fetched):
    """100 MB of the English Wikipedia as XML; fetched on first use (36 MB), unless the folder NANOTX_DATA holds it."""

    source = LargeFile(
        url="https://mattmahoney.net/dc/enwik8.zip",
        member="enwik8",
        sha1="57b8363b814821dc9d47aa4d41f58733519076b2",
        where="http://mattmahoney.net/dc/textdata.html",
    )
    place = Path("enwik8", "enwik8")
    bytes = 100_000_000

    def write(self, play: str) -> str:
        """Return a play as pages of XML, a speech on each."""
        speeches = [speech.strip() for speech in play.split("\n\n") if speech.strip()]
        return "".join(page(number, speech) for number, speech in enumerate(speeches, start=1))


def page(number: int, text: str) -> str:
    """Return a text as a page of XML."""
    title = text.splitlines()[0].rstrip(":")
    return (
        f"  <page>\n    <title>{title}</title>\n    <id>{number}</id>\n    <revision>\n"
        f'      <text xml:space="preserve">{text}</text>\n    </revision>\n  </page>\n'
    )
