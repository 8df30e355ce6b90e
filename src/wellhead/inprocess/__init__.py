"""Answering requests in the agent's own process: applications and handlers in the place of an upstream."""
