"""How the commands behave in a terminal: flags, errors, progress, signals, logs."""
