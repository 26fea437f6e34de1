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

    def model_dump_json(self, include=None, indent=None):
        values = {name: value for name, value in self.model_dump().items() if include is None or name in include}
        return json.dumps(values, indent=indent, ensure_ascii=False)
