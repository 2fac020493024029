"""The training loop, with everything it needs to stop and continue exactly."""
