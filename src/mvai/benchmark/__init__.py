"""The open benchmark: motion capture on the body model, drawn to video, with its exact truth."""
