"""The networks of the model zoo, one row of its table each."""
