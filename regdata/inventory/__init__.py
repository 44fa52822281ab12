"""Columns come in, an Inventory goes out; and to disk and back."""
