"""The finished folder: manifest, model card, and the swap that puts it in place."""
