"""bertlib: BERT from scratch, one small module a lesson.

Read the modules in the order of the notebooks; each imports only those before it:

    corpus, tokens, masking, packing           documents -> ids -> puzzles -> chunks
    prepare_mlm_dataset, data                  a file of puzzles, and batches from it
    attention, blocks, bert                    the model
    counts, told, baselines                    what it knows before it learns, and must beat
    settings, optim, checkpoint, scoring       what learning needs: one step, its state, one score
    trainer, parameters, pretrain              the loop, and the whole job
    huggingface                                models that travel: runs, ours, BERT's and GPT-2's
    predict, samples                           what was learned
    highlight, widget, analysis                guesses as a page, to play with, counted in parts
    gpt                                        the same blocks, looking back only: they write
    finetune                                   a model that judges texts, from a table of examples
    distill                                    a small model that a large one teaches

Behind doors: `plumbing` makes it robust (its own list tells how) and knows nothing of BERT;
`figures` draws for the lessons, its maps and zooms from the whole story; `page` is what `widget`
shows, and makes a model one HTML file that needs no Python; `checks` holds the checkers of the
exercises; `bench` measures. Nothing imports the last two.

Letters in shape comments, defined once, here:
    B  sequences in a batch          H  attention heads
    T  tokens in a sequence          V  words in the vocabulary
    D  width of the model (d_model)  K  masked positions in a batch
"""

import pathlib
import signal
import sys

__version__ = "0.1.0"


def _is_command() -> bool:
    """Whether a command of this package is about to load: python -m, or a console script."""
    name = pathlib.PurePath(sys.argv[0]).stem if sys.argv else ""
    return name in ("-m", "prepare-mlm-dataset", "pretrain-bert")


# Ctrl-C while it loads ends it at once, by the signal: PyTorch cannot bear an exception there.
# From `plumbing.commands.run_command` on it is a KeyboardInterrupt again.
if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def load(folder, best: bool = False):
    """(model, tokenizer) of a run's, a shipped or a published folder; see `huggingface.load`."""
    from bertlib.huggingface import load as load_model  # here: `import bertlib` stays light

    return load_model(folder, best)
