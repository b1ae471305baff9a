"""What is known about a user and an item, at a moment.

In: events, items and users of the lake; an opened Feast store, the clock and the rng as arguments.
Out: feature rows, one definition for batch, streaming, training and serving.
May be imported by: models, monitoring, serving, pipelines. Imports nothing of ours.
Read: schema, definitions, feature_set, position_curve, batch, streaming, request, point_in_time, store.
"""
