"""The program inside a sandbox: it starts processes and terminals there, and reads and writes files.

It answers on a unix socket that only its host can reach. It is forked from a process that has read all it
needs, because after that the machine's own files are out of its sight: no import may happen late here.
"""
