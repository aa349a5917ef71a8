"""Data sets, one file each, and the way from a sample to a batch."""
