"""Flags of the command line: one for every setting of a training."""

from __future__ import annotations

from collections.abc import Callable

from fer_pipeline import config as config_lib
from fer_pipeline import recipes
from fer_pipeline.config import Config


def define_flags() -> Callable[[], Config]:
    """Defines an absl flag for every setting, as flags of the calling module.

    Returns:
      A function that makes a ``Config`` of the flags, once they are parsed.
    """
    from absl import flags

    flags.disclaim_key_flags()
    define = {
        bool: flags.DEFINE_bool,
        str: flags.DEFINE_string,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
    }
    holders = {}
    for name, setting in config_lib.settings().items():
        default, kind = getattr(Config, name), config_lib.value_types()[name][0]
        help_text = " ".join(filter(None, [setting.help, recipes.values_of(name)]))
        if setting.choices:
            holders[name] = flags.DEFINE_enum(name, default, setting.choices, help_text)
        elif kind in (int, float):
            holders[name] = define[kind](
                name,
                default,
                help_text,
                lower_bound=setting.above if setting.minimum is None else setting.minimum,
                upper_bound=setting.below if setting.maximum is None else setting.maximum,
            )
        else:
            holders[name] = define[kind](name, default, help_text)
    return lambda: Config(**{name: holder.value for name, holder in holders.items()})
