"""Inventories and plans come in, small frames go out."""
