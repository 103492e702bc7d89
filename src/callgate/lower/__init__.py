"""From a call plan and conversion steps to machine code with symbolic relocations; touches no process."""
