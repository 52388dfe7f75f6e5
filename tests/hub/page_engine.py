"""Run the engine of the page outside of it: in Node, or in a headless Chromium; the same file, the same answers."""

import base64
import json
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import chromium, find_chromium

from nanotx.hub.html.model import described_model
from nanotx.hub.html.weights import encoded
from nanotx.nn.canonical import to_canonical

ENGINE = (Path(__file__).resolve().parents[2] / "nanotx" / "hub" / "html" / "engine.js").read_text(encoding="utf-8")

DRIVER = """
function modelOf(given) { return new Nanotx.Model(given.model, Nanotx.readTensors(given.table, given.weights)); }
function readAll(text) { while (text.unread) text.readOne(); }
const answers = {
  logits({ model, ids }) {
    const text = new Nanotx.Text(modelOf(model));
    text.replace(ids);
    readAll(text);
    return text.seen.map((entry) => ({ logits: Array.from(entry.logits), maps: Array.from(entry.maps) }));
  },
  greedy({ model, ids, count }) {
    const text = new Nanotx.Text(modelOf(model));
    text.replace(ids);
    for (let i = 0; i < count; i++) {
      readAll(text);
      text.append(Nanotx.draw(Nanotx.chances(text.logits, { temperature: 0 }), () => 0.5));
    }
    return text.ids.slice(ids.length);
  },
  edited({ model, texts }) {
    const text = new Nanotx.Text(modelOf(model));
    return texts.map((ids) => { text.replace(ids); readAll(text); return Array.from(text.logits); });
  },
  tensors({ model }) {
    const tensors = Object.entries(Nanotx.readTensors(model.table, model.weights));
    return tensors.map(([name, { data }]) => [name, Array.from(data)]);
  },
  encode({ tokenizer, texts }) {
    const codec = new Nanotx.Tokenizer(tokenizer);
    return texts.map((text) => {
      try { const ids = codec.encode(text); return [ids, codec.decode(ids)]; } catch (error) { return error.message; }
    });
  },
  chances({ logits, options }) { return Array.from(Nanotx.chances(logits, options)); },
  draws({ chances, seed, count }) {
    const random = Nanotx.randomNumbers(seed);
    return Array.from({ length: count }, () => Nanotx.draw(chances, random));
  },
  erf({ values }) { return values.map(Nanotx.erf); },
};
"""


def described(model, kind="float32"):
    """A model as the page has it."""
    weights = encoded(to_canonical(model, dict(model.named_parameters())), kind)
    data = base64.b64encode(weights.data).decode("ascii")
    return {"model": described_model(model), "table": weights.table, "weights": data}


@contextmanager
def engine(name, folder):
    """A function that calls the engine: `ask("logits", model=..., ids=...)`."""
    if name == "node":
        node = shutil.which("node")
        if not node:
            pytest.skip("there is no node on PATH")
        (folder / "driver.js").write_text(
            f"{ENGINE}\n{DRIVER}\nconst [question, given] = JSON.parse(require('fs').readFileSync(0, 'utf8'));\n"
            "console.log(JSON.stringify(answers[question](given)));",
            encoding="utf-8",
        )

        def ask(question, **given):
            done = subprocess.run(
                [node, str(folder / "driver.js")],
                input=json.dumps([question, given]),
                capture_output=True,
                text=True,
                encoding="utf-8",
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-2000:]
            return json.loads(done.stdout)

        yield ask
        return
    if not find_chromium():
        pytest.skip("there is no Chromium: none on PATH, and NANOTX_CHROMIUM names none")
    with chromium(folder / "profile") as browser:
        (folder / "driver.html").write_text(f"<script>{ENGINE}\n{DRIVER}</script>", encoding="utf-8")
        browser.open((folder / "driver.html").as_uri())
        yield lambda question, **given: browser.value(f"answers[{json.dumps(question)}]({json.dumps(given)})")
