"""The agent on the HTTP/2 carrier. Source: docs/reference/h2-carrier.md."""
