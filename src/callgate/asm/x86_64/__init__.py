"""The x86-64 instruction rows and their encoder."""
