"""Is it still true? Served features and scores against the reference that the bundle carries.

In: what serving logged, the bundle's reference. Out: a report, and a decision with its reason.
May be imported by: serving, pipelines. Imports models, features, infra.
Read: shown, quality, drift, policy, assignment, ab_test, estimate, metrics.
"""
