"""The training loop, with everything it needs to stop and continue exactly."""

from fer_pipeline import lazy

__getattr__, __all__ = lazy.attach(
    __name__,
    {
        "loop": ["train", "Trained", "make_optimizer"],
        "steps": ["compile_train_steps", "compile_evaluate_steps", "cross_entropy"],
        "schedules": ["PlateauSchedule"],
        "state": ["EpochLog", "EpochTiming"],
    },
)
