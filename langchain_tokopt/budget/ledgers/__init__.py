"""Where budgets are kept: one contract, over SQLite, PostgreSQL and Redis."""
