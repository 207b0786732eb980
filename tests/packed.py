"""What a page's engine computes, once more by PyTorch: for the tests."""

import json
from tempfile import NamedTemporaryFile

import torch
from chromium import new_page
from playwright.sync_api import Browser, Page
from safetensors.torch import load

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.page import HERE

READ = """async () => {
  const [file] = document.querySelector("input").files;
  window.model = new Bert(await file.arrayBuffer());
}"""
COMPUTE = """([questions, layer]) => questions.map(([ids, positions]) => {
  const { logits, attention } = model.forward(ids, positions, layer);
  return JSON.stringify([Array.from(logits), attention && Array.from(attention)]);
})"""
FIRST = """(questions) => questions.map(([ids, positions]) => {
  const { logits } = model.forward(ids, positions);
  return logits.indexOf(Math.max(...logits));
})"""


def new_tab(browser: Browser) -> Page:
    """A tab that knows `engine.js`."""
    tab = new_page(browser)
    tab.set_content("<input type=file>")
    tab.add_script_tag(path=HERE / "engine.js")
    return tab


def unpacked(content: bytes, config: BertConfig) -> BertForMaskedLM:
    """The float32 model that the bytes of `bertlib.page.pack` stand for."""
    packed = load(content)
    weights = {name: tensor.float() * packed[f"{name}.scale"][:, None]
               if f"{name}.scale" in packed else tensor.float()
               for name, tensor in packed.items() if not name.endswith(".scale")}
    if config.tied:
        weights["head.decoder.weight"] = weights["encoder.embeddings.token.weight"]
    model = BertForMaskedLM(config)
    model.load_state_dict(weights)
    return model.eval()


class Engine:
    """`engine.js` in a tab of a browser, with a packed model."""

    def __init__(self, tab: Page, content: bytes):
        self.tab = tab
        with NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            tab.set_input_files("input", file.name)
            tab.evaluate(READ)

    def __call__(self, *questions: tuple[list[int], list[int]]) -> list[torch.Tensor]:
        """Logits [K, V] for each (ids, positions)."""
        found = [json.loads(told)[0] for told in self.tab.evaluate(COMPUTE, [questions, -1])]
        return [torch.tensor(logits).view(len(positions), -1) if positions else torch.tensor(logits)
                for logits, (_, positions) in zip(found, questions, strict=True)]

    def first(self, *questions: tuple[list[int], list[int]]) -> list[int]:
        """The first guess for each (ids, [position])."""
        return self.tab.evaluate(FIRST, questions)

    def attention(self, ids: list[int], layer: int) -> torch.Tensor:
        """Weights [H, T, T] of a layer."""
        told, = self.tab.evaluate(COMPUTE, [[(ids, [0])], layer])
        return torch.tensor(json.loads(told)[1]).view(-1, len(ids), len(ids))
