"""The networks, and faster layers to train them with."""
