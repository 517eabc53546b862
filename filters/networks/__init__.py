"""The CNNs: one torch module per file."""
