"""What is exported: the files, their inputs and outputs, and the gates they have to pass."""
