"""Access logs and lists of what runs come in; who pulled what, and what is in use, goes out."""
