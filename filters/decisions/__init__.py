"""What the encoder decides about a filter block by block, and Wiener filters behind it: searched, coded, applied."""
