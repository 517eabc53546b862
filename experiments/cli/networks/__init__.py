"""The commands on network files: compress, decompress, update and inspect."""
