"""What the stand-in's classes have of pydantic's models."""

import json


class Model:
    """Fields with defaults."""

    model_fields = {}

    def __init__(self, **values):
        for name, default in self.model_fields.items():
            setattr(self, name, values.get(name, default))

    @classmethod
    def model_validate(cls, values):
        if not isinstance(values, dict):
            raise ValueError("fields were expected")
        return cls(**values)

    def model_dump(self, mode="python"):
        return {name: getattr(self, name) for name in self.model_fields}

    def model_dump_json(self, indent=None):
        return json.dumps(self.model_dump(), indent=indent)
