"""`irisgate serve --workers N`: N worker processes that serve the calls, and their parent process, the keeper."""
