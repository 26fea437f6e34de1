from harbor.plain import Model


class AgentCapabilities(Model):
    model_fields = {"atif": False, "resume": False}
