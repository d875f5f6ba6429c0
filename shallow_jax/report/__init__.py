"""From result files to numbers, tables and a page; needs no JAX."""
