"""What CPython's objects look like in memory, and the steps from objects to C values, as data."""
