"""The commands in a terminal: flags, errors, progress, tables, signals and logs."""
