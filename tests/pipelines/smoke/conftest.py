from tests.serving.conftest import furnished  # noqa: F401
