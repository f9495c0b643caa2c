"""Measuring rnnfast beside the frameworks that are installed.

``grid`` says what is measured, ``subjects`` who takes part, ``measure`` how times are taken,
``run`` puts them together case by case, ``report`` and ``plot`` show the result; ``cli`` is the
command ``rnnfast bench``. Importing this package imports none of the frameworks.
"""
