"""An observer that prints the calls that took longer than ten seconds."""

api = 1

SLOW_MS = 10_000


def seen(record):
    if record["duration_ms"] >= SLOW_MS:
        print(f"{record['id']} {record['identity']} {record['model']} took {record['duration_ms'] / 1000:.0f} s")
