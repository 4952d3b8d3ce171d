"""Raw media to features: a waveform, a video or words in, (T, F) frames and their times out.

``registry.build_extractor("audio", "mfcc")`` makes an extractor, ``extract.extract`` runs it over
clips (``base.Clip``) and hands out tracks (``base.Track``).
"""
