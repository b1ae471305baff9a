pytest_plugins = ["tests.services", "tests.online_stores"]
