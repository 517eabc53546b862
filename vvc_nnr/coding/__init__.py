"""Tensors and networks to and from NNC data units; updates; inspection."""
