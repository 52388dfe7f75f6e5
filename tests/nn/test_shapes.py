"""The alphabet of axes is whole: every axis of a pattern or an annotation is explained where `trace` prints it."""

import re

from helpers import ROOT

from nanotx.nn.shapes import AXES

PATTERN = re.compile(r"\"([\w ().,{}]+ ->[\w ().,{}]*)\"")
ANNOTATION = re.compile(r"(?:Float|Int|Bool)\[Tensor, \"([^\"]*)\"\]")


def test_every_axis_of_the_layers_is_explained():
    axes = set[str]()
    for file in (ROOT / "nanotx" / "nn").rglob("*.py"):
        for pattern in [*PATTERN.findall(source := file.read_text(encoding="utf-8")), *ANNOTATION.findall(source)]:
            axes |= set(re.findall(r"[a-z]\w*", re.sub(r"\{.*?\}", "", pattern)))
    assert {"b", "t", "s", "d", "h", "k"} <= axes
    assert axes - AXES.keys() == set()
