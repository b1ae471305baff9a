"""What Feast knows: entities, views and sources, generated from features/definitions.py.

In: the folder of the offline store's Parquet files. Out: Feast objects, to be applied.
May be imported by: pipelines. The only folder under features/ that imports Feast.
Read: views.
"""
