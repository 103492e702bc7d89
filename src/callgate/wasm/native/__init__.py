"""Compiled mode in the live process: code mapped, stubs published, instances laid out in memory.

`compile.layout` says what compiled code finds where.  What it asks of Python (a trap, a poll, a new thread,
memory.grow) comes by callbacks, which raise as any callback does; the gate that entered raises.
"""
