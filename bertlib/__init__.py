"""bertlib: BERT from scratch, one small module a lesson.

Read the modules in the order of the notebooks; each imports only those before it:

    files                                                   errors, safe writing: used by all
    tokens, masking, corpus, dataset_file, data             text -> ids -> file -> batch
    prepare_mlm_dataset                                     makes the files
    attention, blocks, bert, counts                         the model, and its start from counts
    baselines                                               what it must beat
    settings, device, optim, checkpoint, runlog             what learning needs
    ranks, scoring, trainer                                 learning, alone or with others
    plots, workspace, pretrain, predict                     the whole job; what was learned
    highlight, live, widget                                 guesses as a page, and to play with
    hub                                                     models that travel, BERT's own too
    analysis                                                what it knows, counted in parts
    shapes, checks                                          a ledger of shapes; exercises
    ablate, bench_data, bench_train, bench                  what helps, and how fast it all is

Letters in shape comments, defined once, here:
    B  sequences in a batch          H  attention heads
    T  tokens in a sequence          V  words in the vocabulary
    D  width of the model (d_model)  K  masked positions in a batch
"""

__version__ = "0.1.0"
