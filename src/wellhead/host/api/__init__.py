"""What visitors ask of the sandboxes on this host: commands, processes, terminals and files."""
