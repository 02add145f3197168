"""How the shipped weights and example files are made."""
