"""A model that judges whole texts: an encoder, and a small head on its state of [CLS].

Source: Devlin et al. 2018, section 4 and figure 4; the pooler is that of their code and of
Hugging Face's BertForSequenceClassification.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertlib.bert import Encoder
from bertlib.finetune.examples import Examples, in_batches
from bertlib.plumbing.metrics import confusion, of_classes, of_numbers
from bertlib.plumbing.tables import Row, class_numbers, values
from bertlib.predict import evaluation
from bertlib.tokens import Tokenizer

AT_ONCE = 64  # texts that are judged together


class Judgement(NamedTuple):
    """logits [B, C]; the loss in nats, of numbers the mean square, or None without labels."""

    logits: Tensor
    loss: Tensor | None


class Classifier(nn.Module):
    """An encoder with a pooler (dense + tanh), dropout and a linear layer: one logit a label.

    Of numbers (`regression`) there is one label, and its logit is the number. sep: the id of
    [SEP], after which a second sentence begins.
    """

    def __init__(self, encoder: Encoder, labels: Sequence[str], sep: int, regression: bool = False):
        super().__init__()
        self.config, width = encoder.config, encoder.config.d_model
        self.labels, self.sep, self.regression = tuple(labels), sep, regression
        self.encoder = encoder
        self.pooler = nn.Linear(width, width)
        self.dropout = nn.Dropout(self.config.dropout)
        self.classifier = nn.Linear(width, len(self.labels))
        for layer in (self.pooler, self.classifier):
            nn.init.normal_(layer.weight, std=self.config.init_std)
            nn.init.zeros_(layer.bias)

    def forward(self, input_ids: Tensor, positions: Tensor | None = None,
                labels: Tensor | None = None, attention_mask: Tensor | None = None) -> Judgement:
        """Ids [B, T] -> logits and, with labels [B], the mean loss.

        A text is a puzzle with one hole, so that all that trains on puzzles trains on texts:
        `positions` [B], flat into [B*T], are those of [CLS], the first token if None.
        """
        if positions is None:
            positions = torch.arange(len(input_ids), device=input_ids.device) * input_ids.shape[1]
        kinds = self.token_types(input_ids, attention_mask)
        first = self.encoder(input_ids, attention_mask, kinds, keep=positions)  # [B, D]
        pooled = self.pooler(first).tanh()
        logits = self.classifier(self.dropout(pooled)).float()  # [B, C]
        if labels is None:
            return Judgement(logits, None)
        if self.regression:
            return Judgement(logits, F.mse_loss(logits[:, 0], labels))
        return Judgement(logits, F.cross_entropy(logits, labels))

    def token_types(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor | None:
        """1 from the token after the first [SEP] to the second, else 0: [B, T]; None if unused."""
        if self.config.n_token_type < 2:
            return None
        ends = (input_ids == self.sep).int()
        second = ends.cumsum(1) - ends == 1  # one [SEP] before it
        return (second if attention_mask is None else second & attention_mask).long()

    def n_parameters(self) -> int:
        """All numbers of the model, frozen ones too."""
        return sum(p.numel() for p in self.parameters())

    @torch.no_grad()
    def rescale(self, mean: float, std: float) -> None:
        """Let the logit x be std * x + mean from now on."""
        self.classifier.weight.mul_(std)
        self.classifier.bias.mul_(std).add_(mean)


@torch.no_grad()
def judge(model: Classifier, examples: Examples) -> Tensor:
    """What a model says of all examples, in their order, with dropout off: logits [n, C]."""
    device = next(model.parameters()).device
    logits = torch.empty(len(examples), len(model.labels))
    with evaluation(model):
        for index in in_batches(examples.lengths, AT_ONCE):
            batch = examples.frozen(index).to(device)
            out = model(batch.input_ids, batch.positions, attention_mask=batch.attention_mask)
            logits[index] = out.logits.cpu()
    return logits


def read(model: Classifier, tokenizer: Tokenizer, rows: Sequence[Row]) -> Examples:
    """Rows as a classifier reads them, with their labels as numbers or as classes of it."""
    labels = (torch.tensor(values(rows)) if model.regression
              else torch.tensor(class_numbers(rows, model.labels)))
    return Examples(tokenizer, [row.texts for row in rows], model.config.seq_len, labels)


def score(model: Classifier, tokenizer: Tokenizer, rows: Sequence[Row]) -> dict[str, Any]:
    """How right a classifier is on labelled rows, as plain values; see `plumbing.metrics`."""
    asked = read(model, tokenizer, rows)
    logits = judge(model, asked)  # [n, C]
    found = of_numbers(asked.labels, logits[:, 0]) if model.regression else of_classes(
        confusion(asked.labels, logits.argmax(1), len(model.labels)))
    return {"examples": len(rows), **found}


class Answer(NamedTuple):
    """A label with its probability 0..1; of numbers "score" and the number."""

    label: str
    score: float


def predict(model: Classifier, tokenizer: Tokenizer,
            texts: Sequence[str | tuple[str, ...]]) -> list[Answer]:
    """What a classifier says of each text, or of each two: the most probable label."""
    asked = [(text,) if isinstance(text, str) else text for text in texts]
    logits = judge(model, Examples(tokenizer, asked, model.config.seq_len))  # [n, C]
    best = logits.max(1) if model.regression else logits.softmax(1).max(1)
    return [Answer(model.labels[number], share) for share, number in
            zip(best.values.tolist(), best.indices.tolist(), strict=True)]
