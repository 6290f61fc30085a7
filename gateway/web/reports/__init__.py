"""The parts that report pages and the API share: the filter in the query, ranges of time in the reader's zone, and CSV.

The store computes the reports (`gateway/store/reports`). `gateway/web/admin/reports.py` decides which calls a reader
may see.
"""
