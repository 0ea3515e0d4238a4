"""What the tests share: tiny experiments and tasks, made-up records, slow and plain twins of fast code."""
