"""Visitors' connections: HTTP/1.1 and HTTP/2 on a transport, for whoever ends their TLS."""
