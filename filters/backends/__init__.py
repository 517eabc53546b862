"""backends: ways to compute a network, each imported only when it is used."""
