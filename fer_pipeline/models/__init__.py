"""The networks, and faster layers for training."""
