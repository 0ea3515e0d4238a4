"""The report of a comparison: a page, tables, figures and files computed from its runs."""
