"""The disk buffer, by itself."""
