"""Settings of a decoder with a large context: what there are, and what they mean together."""

from __future__ import annotations

from memplan.domain.setting import CPU, Setting, Settings, device, whole, word
from memplan.programs.context_cache import BITS, MAPPED, MEMORY, Row

CACHED, WINDOWS, NONE = "cached", "windows", "none"
SETTINGS: tuple[Setting, ...] = (
    Setting(name="layers", summary="blocks of the decoder", most=1000),
    Setting(name="heads", summary="heads of attention", most=1024),
    Setting(name="head_dim", summary="width of a head", default=64, most=1024),
    Setting(name="hidden", summary="width of the residual stream", most=2**20),
    Setting(name="vocab", summary="tokens there are", most=2**24),
    Setting(name="context", summary="tokens to read", most=2**30),
    Setting(
        name="window", summary="tokens of a training step, and of windows; 0 for all", default=0, least=0
    ),
    Setting(
        name="stride", summary="tokens from one window to the next; 0 for the window", default=0, least=0
    ),
    Setting(name="training", summary="whether it trains", default=True),
    Setting(
        name="interval",
        summary="blocks between checkpoints; 0 keeps all activations",
        default=0,
        least=0,
        most=1000,
    ),
    Setting(
        name="reading",
        summary="how the context is read: all of it before each token, or windows that are merged",
        default=CACHED,
        choices=(CACHED, WINDOWS, NONE),
    ),
    Setting(name="chunk", summary="tokens read at once; 0 for all", default=0, least=0),
    Setting(name="cache", summary="where keys and values are", default=MEMORY, choices=(MEMORY, MAPPED)),
    Setting(name="stored", summary="what a cached number is", default="fp32", choices=tuple(BITS)),
    device(CPU),
)


def problem(settings: Settings, /) -> tuple[str, str] | None:
    """Windows beyond the context, strides beyond the window, intervals beyond the layers, a GPU.

    Windows and strides matter where something is done in windows.
    """
    window, context = window_of(settings), whole(settings, "context")
    windows = settings["training"] or settings["reading"] == WINDOWS
    found = {
        "device": settings["device"] != CPU and "is for a run in host memory: set device: cpu",
        "window": windows
        and window > context
        and f"of {window:,} tokens is wider than the context of {context:,}",
        "stride": settings["reading"] == WINDOWS
        and whole(settings, "stride") > window
        and f"of {whole(settings, 'stride'):,} tokens leaves some between windows of {window:,}",
        "interval": whole(settings, "interval") > whole(settings, "layers")
        and f"is beyond the {whole(settings, 'layers')} layers",
        "stored": BITS[word(settings, "stored")] in (4, 8)
        and whole(settings, "head_dim") % 2 == 1
        and "in groups of numbers wants heads of an even width",
    }
    return next(((name, said) for name, said in found.items() if said), None)


def window_of(settings: Settings) -> int:
    return whole(settings, "window") or whole(settings, "context")


def cached_tokens(settings: Settings) -> int:
    """Tokens that are cached at once."""
    return window_of(settings) if settings["reading"] == WINDOWS else whole(settings, "context")


def row_of(settings: Settings) -> Row:
    return Row(
        heads=whole(settings, "heads"),
        head_dim=whole(settings, "head_dim"),
        stored=word(settings, "stored"),
    )
