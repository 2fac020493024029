"""Every file, run in its own runtime and compared with the float32 network."""
