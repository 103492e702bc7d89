"""Where each argument of a C call travels, decided once, as data."""
