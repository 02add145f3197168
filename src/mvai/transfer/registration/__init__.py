"""Finds the body in a character: what methods of transfer share, and none of them is imported here.

A detector's key-points on pictures, or the shape, say where limbs are (`find_joints`, `geometry`);
the template is fitted to them and to the surface (`fit`); the best fit is kept (`find_body`,
`cache`), and its skin weights are carried over (`weights`).
"""
