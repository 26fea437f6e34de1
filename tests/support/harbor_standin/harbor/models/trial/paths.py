class TrialPaths:
    def __init__(self, trial_dir):
        self.trial_dir = trial_dir
