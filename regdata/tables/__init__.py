"""Frames come in; connections, query results and selected ids go out."""
