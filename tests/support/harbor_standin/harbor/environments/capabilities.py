from harbor.plain import Model


class EnvironmentCapabilities(Model):
    model_fields = {"mounted": False}
