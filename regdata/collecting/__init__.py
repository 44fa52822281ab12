"""What is left in a registry comes in, freed bytes go out."""
