"""Any trained model, in its own runtime: pictures or images in, probabilities out."""

from fer_pipeline import lazy

__getattr__, __all__ = lazy.attach(
    __name__,
    {
        "faces.program": ["predict"],
        "predictor": ["predictions"],
        "classifier": ["open_classifier"],
        "results": ["Prediction", "Unreadable"],
        "pretrained": ["pretrained_path"],
    },
)
