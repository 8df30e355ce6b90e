"""A page in a sandbox, at a URL for everybody, until Ctrl-C: python examples/sandbox_port.py"""

import contextlib

import wellhead


def main() -> None:
    with wellhead.Wellhead() as server, server.sandboxes.create("minimal", visibility="public") as sandbox:
        sandbox.files.write("index.html", "hello from a sandbox\n")
        print(f"{sandbox.url(8000)} -> port 8000 of {sandbox.id}", flush=True)
        app = sandbox.exec_stream("cd && exec python3 -m http.server 8000")
        with contextlib.suppress(KeyboardInterrupt), app:
            for piece in app:
                print(piece.data.decode(), end="", flush=True)


if __name__ == "__main__":
    main()
