"""Bytes in, records out, and the way back: see README.md. Nothing is imported here, so that a child starts fast."""
