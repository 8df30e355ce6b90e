"""Wellhead measured beside other tunnels, in one run, on one machine: ``python -m bench``.

``targets`` and ``product`` start what is measured, ``load`` drives it, ``plan`` says what is measured and in
which order, ``report`` turns samples into tables. How to read them: docs/reference/benchmarks.md.
"""
