collect_ignore = ["locustfile.py"]  # needs Locust, which the locks do not have
