"""What a run leaves behind: written as it happens, and read back."""
