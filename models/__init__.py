"""Arrays in, scores out: no network, no clock, no registry.

In: feature rows and interaction arrays from features/.
Out: candidates, scores, slates, metrics and the bundle that serving loads.
May be imported by: monitoring, serving, pipelines. Imports features only.
Read: split, metrics, popularity, covisitation, losses, sampling, two_tower, user_tower, index,
ranker, rerank, funnel, manifest, staging, bundle, versions.
"""
