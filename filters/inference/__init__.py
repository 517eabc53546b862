"""A network over a picture, by any backend, integers included."""
