"""`python -m langchain_tokopt`: the same as `tokopt`."""

from langchain_tokopt.cli import app

if __name__ == "__main__":
    app(prog_name="tokopt")
