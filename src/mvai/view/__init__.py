"""Previews and contact sheets."""
