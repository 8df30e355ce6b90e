"""The control plane: REST over the records."""
