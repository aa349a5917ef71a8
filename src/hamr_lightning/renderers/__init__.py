"""Silhouette renderers, one file each."""
