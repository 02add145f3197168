"""Torch modules with their weights."""
