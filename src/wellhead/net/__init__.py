"""Sockets, TLS, tasks and timers: everything that touches the network, and nothing that decides."""
