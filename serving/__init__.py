"""One request, one deadline.

In: HTTP, the current bundle, the online store. Out: slates, impressions and events on the log.
May be imported by: nobody (pipelines is a sibling, and starts this by name).
Read: app, schemas, recommend, deadline, fallback, events, outbox, current, fresh_items, gate, admin.
"""
