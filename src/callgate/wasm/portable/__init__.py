"""Portable mode: WebAssembly as Python source, for machines without native code and for stepping through."""
