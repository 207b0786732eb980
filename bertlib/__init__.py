"""bertlib: BERT from scratch, one small module a lesson.

Read the modules in the order of the notebooks; each imports only those before it:

    files, commands, records                                errors, safe writing: used by all
    lines, texts, corpus                                    files -> documents, dealt out
    vocab, tokens, masking                                  words -> ids -> puzzles
    dataset_header, dataset_file, data                      files of puzzles -> batches
    packing, prepare_mlm_dataset                            makes the files
    attention, blocks, bert, counts                         the model, and its start from counts
    baselines                                               what it must beat
    settings, device, optim, states, checkpoint, runlog     what learning needs
    runs, interrupts, ranks                                 which run, how it stops, who shares it
    published, hub                                          models that travel, BERT's own too
    learner, scoring, trainer                               learning, alone or with others
    plots, workspace, parameters, pretrain                  the whole job
    page, predict, samples                                  what was learned
    highlight, live, widget                                 guesses as a page, and to play with
    analysis                                                what it knows, counted in parts
    shapes, checks                                          a ledger of shapes; exercises
    ablate, bench_data, bench_overlap, bench_train, bench   what helps, and how fast it all is

Letters in shape comments, defined once, here:
    B  sequences in a batch          H  attention heads
    T  tokens in a sequence          V  words in the vocabulary
    D  width of the model (d_model)  K  masked positions in a batch
"""

import sys

__version__ = "0.1.0"


def _told(kind, error, trace):
    """Ctrl-C while a command still loads is one line, not the place where Python was."""
    if issubclass(kind, KeyboardInterrupt):
        print("\ninterrupted before it began; nothing was written.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if sys.argv[:1] == ["-m"]:  # as in python -m bertlib.predict, before that module is found
    sys.excepthook = _told


def load(folder, best: bool = False):
    """(model, tokenizer) of a run's, a shipped or a published folder; see `bertlib.hub.load`."""
    from bertlib.hub import load as load_model  # here, so that `import bertlib` stays light

    return load_model(folder, best)
