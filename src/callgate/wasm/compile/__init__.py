"""Bodies to x86-64 machine code.  Nothing here touches the process: what maps and runs the code is `wasm.native`."""
