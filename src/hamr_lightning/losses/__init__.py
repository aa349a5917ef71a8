"""Loss plugins, one file each."""
