"""Instructions to bytes and text; knows nothing of calls, Python or the process."""
