"""Which devices train, in which precision, and how several hosts work together."""

from fer_pipeline import lazy

__getattr__, __all__ = lazy.attach(
    __name__,
    {
        "strategy": ["Devices", "join", "training_gpus"],
        "cluster": ["Shard", "WorkerInfo", "worker_info"],
        "precision": ["true_float32"],
    },
)
