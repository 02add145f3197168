"""Evaluate: measures, and the commands that write the tables in docs/."""
