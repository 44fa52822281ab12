"""A registry comes in; what is broken in it, what that means for who pulls, and the cure go out."""
