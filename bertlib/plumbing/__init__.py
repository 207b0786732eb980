"""What makes it robust: files, runs, ranks, machines. It knows nothing of BERT."""
