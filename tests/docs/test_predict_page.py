"""The page on predictions shows requests that are taken, and every parameter there is."""

import re
from pathlib import Path

from app.chat.predict_schemas import PredictParameters, PredictRequest

PAGE = (Path(__file__).parents[2] / "docs/predict.md").read_text()


def test_every_example_is_a_request():
    bodies = re.findall(r"-d '(\{.*?\})'$", PAGE, re.MULTILINE)
    assert bodies
    for body in bodies:
        assert PredictRequest.model_validate_json(body).inputs


def test_every_parameter_is_explained():
    assert [name for name in PredictParameters.model_fields if name not in PAGE] == []
