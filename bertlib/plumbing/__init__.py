"""What makes it robust. It knows nothing of BERT.

    files, records                 writing that loses nothing; JSON with a seal
    limits                         what a setting may be, and how a value is refused
    texts, lines                   text files as people have them, as documents and as lines
    tables, metrics                tables of texts and labels; how right answers are
    vocab, words                   a vocabulary: its words, and the files that hold them
    dataset_header, dataset_file, dataset_folder    files of puzzles, and their names
    runs, states                   run folders; what a checkpoint holds, read and checked
    runlog                         what a run writes down, and the line that shows its progress
    page, live                     guesses as plain values; a page in a notebook
    contexts                       words counted by what stands around them
    device, ranks                  one machine, and several processes as one run
    commands, interrupts           how commands end, and Ctrl-C
"""
