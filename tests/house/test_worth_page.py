"""docs/what_each_part_is_worth.md: its table is that of the results, and its command makes the arms of the table."""

import itertools
import json
import re
import shlex

from helpers import ROOT

from nanotx.experiments.plan import make_arms
from nanotx.recipe_flags import read_recipe
from nanotx.recipes.shakespeare_char import recipe

PAGE = (ROOT / "docs/what_each_part_is_worth.md").read_text(encoding="utf-8")
ROWS = json.loads((ROOT / "benchmarks/results/ablations-cpu.json").read_text(encoding="utf-8"))["rows"]


def test_page_shows_the_rows_of_the_results():
    assert len(ROWS) >= 9
    for row in ROWS:
        cells = [f"{row['val_loss']:.4f}", "", f"{row['step_ratio']:.2f}"]
        if row["name"] != "recipe":
            cells[1] = f"{row['difference']:+.4f} ± {row['interval']:.4f}"
            assert f"| `{row['flags']}` |" in PAGE
        assert f"| {' | '.join(cells)} |".replace("|  |", "| |") in PAGE


def test_command_of_the_page_trains_the_recipes_of_its_table():
    (command,) = re.findall(r"^nanotx compare (?:.*\\\n)*.*$", PAGE, re.MULTILINE)
    words = shlex.split(command.replace("\\\n", " "))
    changes = [word for flag, word in itertools.pairwise(words) if flag == "--change"]
    arms = make_arms(recipe, changes)
    assert [arm.recipe for arm in arms] == [read_recipe(recipe, row["flags"].split(), "x")[0] for row in ROWS]
    for row in ROWS:
        assert words[words.index("--train.steps") + 1] == str(row["steps"])
        assert words[words.index("--seeds") + 1] == str(len(row["seeds"]))
