"""The live process: probing layouts, executable memory, installing builtins, and the ctypes fallback."""
