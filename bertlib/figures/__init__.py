"""What lessons draw: curves, bars, maps, and the ledger of shapes."""
