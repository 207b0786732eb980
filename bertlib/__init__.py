"""bertlib: BERT from scratch, one small module a lesson.

Read the modules in the order of the notebooks; each imports only those before it:

    files                                                   errors, safe writing: used by all
    tokens, masking, corpus, data, prepare_mlm_dataset      text -> ids -> file -> batch
    attention, blocks, bert, counts                         the model, and its start from counts
    settings, device, optim, checkpoint, runlog, trainer    learning, and losing nothing
    plots, pretrain, predict                                the whole job; what was learned
    bench                                                   how fast it all is

Letters in shape comments, defined once, here:
    B  sequences in a batch          H  attention heads
    T  tokens in a sequence          V  words in the vocabulary
    D  width of the model (d_model)  K  masked positions in a batch
"""

__version__ = "0.1.0"
