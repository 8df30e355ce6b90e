"""The edge: accepts visitors and agents, and joins them."""
