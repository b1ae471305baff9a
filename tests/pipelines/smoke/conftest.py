from tests.serving.conftest import furnished, shop  # noqa: F401
