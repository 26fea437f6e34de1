from harbor.plain import Model


class EnvironmentConfig(Model):
    model_fields = {"env": None}


class MCPServerConfig(Model):
    model_fields = {"name": None}
