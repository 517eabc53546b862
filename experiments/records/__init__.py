"""What is stored of an experiment: rows as data frames, settings, provenance."""
