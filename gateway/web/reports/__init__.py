"""Parts of the reports on pages: the filter in a page's query, ranges of time in the reader's zone, and CSV.

The store computes the reports (`gateway/store/reports`). `gateway/web/admin/reports.py` decides which calls a reader
may see.
"""
