"""AArch64: register names and the assembler."""
