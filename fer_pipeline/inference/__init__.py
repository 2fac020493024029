"""Any trained model, in its own runtime: images in, probabilities out."""
