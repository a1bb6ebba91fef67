"""Runs LangChain's own tests of agents with the optimiser added to every agent: `python -m compat.run`."""
