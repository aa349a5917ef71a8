"""The commands, a module each. Heavy modules are imported when a command needs them: ``--help`` answers at once."""
