"""The ``wellhead`` command."""
