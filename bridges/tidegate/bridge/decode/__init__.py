"""Decoders: how a device's bytes become a value, each in a module of its own, found by its name."""

from tidegate.bridge.decode.decoder import Decoder, decoder_names, new_decoder

__all__ = ["Decoder", "decoder_names", "new_decoder"]
