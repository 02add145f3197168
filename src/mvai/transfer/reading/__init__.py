"""Reads what a moving mesh does, in whatever vertex order it is, off the mesh alone.

`source` reads bodies like those the network was trained on: `network` says where points belong and
how joints turn, `search` finds the frame of the root, `match`, `refine` and `agree` lay a body over
the points. `rest` reads meshes unlike people through their rest pose. Methods of transfer share
this; none of them is imported here.
"""
