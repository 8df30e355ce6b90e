"""How a host runs sandboxes."""
