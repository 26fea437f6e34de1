from harbor.plain import Model


class ExecResult(Model):
    model_fields = {"stdout": None, "stderr": None, "return_code": 0}


class BaseEnvironment:
    def _merge_env(self, env):
        return env
