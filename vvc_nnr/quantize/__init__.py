"""Quantisers: from real-valued weights to integer levels and back."""
