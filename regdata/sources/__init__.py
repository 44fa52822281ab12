"""A registry comes in, over its API or by its folder; columns go out, and the few writes that a clean-up makes."""
