"""Days of a shop whose policies have twins, and what they came to.

In: families, seeds, arms and days; the world. Out: a book of each day, var/reports/loop.json and
var/reports/loop/index.html. May be imported by: the command line.
Read, after the days are lived:

    shelf      the books of all twins, as frames
    summary    lift, share of the oracle, every measure by day
    answer     the same in words
    charts, elements, page, tell   what people read
"""
