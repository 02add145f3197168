"""Pure functions on points, meshes, rotations and linear systems."""
