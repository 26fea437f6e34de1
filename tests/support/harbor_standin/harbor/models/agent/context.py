from harbor.plain import Model


class AgentContext(Model):
    model_fields = {"n_input_tokens": None, "n_output_tokens": None, "cost_usd": None, "metadata": None}

    def is_empty(self):
        return all(getattr(self, name) is None for name in self.model_fields)
