"""The description of the JSON routes: there, complete, and a valid one."""

import re

import jsonschema_rs
import pytest

from tests.conftest import TOKEN
from tests.support.administrator import SCRIPT
from webapp.app import MODEL_ERRORS
from webapp.exceptions import AppError

# What answers with a page, a picture or text, and only by an error with JSON.
PAGES = {
    ("GET", "/"),
    ("GET", "/how-it-works"),
    ("GET", "/gallery"),
    ("GET", "/gallery/{number}"),
    ("GET", "/gallery/sprite/{version_id}-{digest}.png"),
    ("GET", "/admin"),
    ("GET", "/admin/runs"),
    ("GET", "/admin/sign-in"),
    ("POST", "/admin/sign-in"),
    ("POST", "/admin/sign-out"),
    ("GET", "/static/{name}"),
    ("GET", "/favicon.ico"),
}
METHODS = ("get", "post", "put", "patch", "delete")


@pytest.fixture(scope="module")
def document(reader):
    return reader.get("/openapi.json").get_json()


def operations(document):
    """Method, address and description of each."""
    return [
        (method.upper(), path, item[method]) for path, item in document["paths"].items() for method in METHODS
        if method in item
    ]  # fmt: skip


def test_openapi_describes_every_json_route(shared_app, document):
    routes = {
        (method, re.sub(r"<(?:[^:<>]+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in shared_app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert {(method, path) for method, path, _ in operations(document)} == routes - PAGES
    assert routes >= PAGES


def test_openapi_and_its_schemas_are_valid(document):
    assert document["openapi"] == "3.1.0"
    for schema in found_under("schema", document) + list(document["components"]["schemas"].values()):
        jsonschema_rs.meta.validate(schema)
    references = {reference.removeprefix("#/components/schemas/") for reference in found_under("$ref", document)}
    assert references == set(document["components"]["schemas"])


def found_under(name, part):
    """All that stands under this name, anywhere in a part of a document."""
    if isinstance(part, list):
        return [found for one in part for found in found_under(name, one)]
    if not isinstance(part, dict):
        return []
    return [found for key, one in part.items() for found in ([one] if key == name else found_under(name, one))]


def test_openapi_describes_every_error(document):
    codes = {}
    for _, _, operation in operations(document):
        for status, answer in operation["responses"].items():
            schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
            for code in found_under("enum", schema.get("allOf", [])):
                codes.setdefault(int(status), set()).update(code)
    named = [(kind.status, kind.code) for kind in AppError.__subclasses__() if hasattr(kind, "code")]
    for status, code in [*named, *MODEL_ERRORS.values()]:
        assert code in codes[status], f"{status} {code} is nowhere described"


def test_openapi_asks_administrators_for_the_token(document):
    for _, path, operation in operations(document):
        assert ("security" in operation) == path.startswith(("/admin", "/metrics")), path
    doors = document["components"]["securitySchemes"]
    assert (doors["token"]["type"], doors["token"]["scheme"]) == ("http", "bearer")


def test_openapi_operations_have_names_and_summaries(document):
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] for _, _, operation in operations(document))


def test_predict_answers_as_described(document, reader):
    example = document["components"]["schemas"]["OnePicture"]["examples"][0]
    reading = reader.post("/predict", json=example).get_json()
    assert reading["digits"] == [7]
    schemas = {"components": document["components"]}
    jsonschema_rs.validate(schemas | {"$ref": "#/components/schemas/Reading"}, reading)
    refusal = reader.post("/predict", json={}).get_json()
    jsonschema_rs.validate(schemas | {"$ref": "#/components/schemas/Error"}, refusal)
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schemas | {"$ref": "#/components/schemas/Reading"}, reading | {"more": 1})


def test_openapi_is_public_and_tells_no_secret(app, client):
    answer = client.get("/openapi.json")
    assert answer.status_code == 200 and answer.mimetype == "application/json"
    assert answer.data == client.get("/openapi.json", headers=SCRIPT).data
    assert TOKEN not in answer.text and app.config["SECRET_KEY"] not in answer.text
