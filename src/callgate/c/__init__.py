"""What a C declaration means: types, their layout per target, and the two notations that declare them."""
