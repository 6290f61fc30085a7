"""`irisgate serve --workers N`: one keeper process, and N worker processes that serve the calls."""
