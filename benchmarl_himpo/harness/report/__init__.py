"""The report of a comparison: what follows from its runs, as a page, tables, pictures and files."""
