"""Table 1: clients of different capabilities. Rows, settings, what is run at which scale, and the table itself."""
