"""Which dimensions of a module's parameters count the same units, found by following one forward pass."""
