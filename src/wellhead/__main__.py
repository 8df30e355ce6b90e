"""``python -m wellhead``: the same as the ``wellhead`` command."""

from wellhead.cli.main import main

if __name__ == "__main__":
    main()
