"""The shipped model in a page: the same first guesses as PyTorch's."""

import pytest
import torch
from chromium import needs_chromium
from packed import Engine, new_tab
from test_tokens import paragraphs

from bertlib.huggingface import MODEL, load
from bertlib.page import WEIGHTS, pack

pytestmark = needs_chromium
FIRST_OF_EACH = """(questions) => questions.map(([ids, positions]) => {
  const { logits } = model.forward(ids, positions), V = logits.length / positions.length;
  return positions.map((_, k) => {
    const row = logits.subarray(k * V, (k + 1) * V);
    return row.indexOf(Math.max(...row));
  });
})"""
HOLES, EACH = 1_000, 10


@pytest.mark.parametrize("weights", WEIGHTS)
def test_99_of_100_first_guesses_of_the_shipped_model_stay(browser, weights):
    """At 1,000 holes, ten in a text of the corpus, against PyTorch in float32."""
    model, tokenizer = load(MODEL)
    torch.manual_seed(0)
    model, questions, wanted = model.float().eval(), [], []
    texts = [text for text in paragraphs(3_000) if len(text) > 300][:: 5]
    for text in texts[: HOLES // EACH]:
        ids = torch.tensor([tokenizer.encode(text)[:64]])
        places = 1 + torch.randperm(ids.shape[1] - 2)[:EACH]
        ids[0, places] = tokenizer.special.mask
        with torch.no_grad():
            wanted += model(ids, places).logits.argmax(1).tolist()
        questions.append((ids[0].tolist(), places.tolist()))
    tab = new_tab(browser)
    engine = Engine(tab, pack(model, tokenizer, weights))
    found = [first for row in engine.tab.evaluate(FIRST_OF_EACH, questions) for first in row]
    same = sum(map(int.__eq__, wanted, found))
    print(f"{weights}: {same} of {len(wanted):,} first guesses are PyTorch's")
    assert len(wanted) == HOLES and same >= 990
    assert tab.errors == [] and tab.outside == []
    tab.close()
