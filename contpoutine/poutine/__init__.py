"""The seed's handlers, for generator models."""
