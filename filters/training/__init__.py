"""Pairs from the real codec, the training loop, its tasks, fine-tuning."""
