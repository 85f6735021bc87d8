"""The motif collection: silk patterns with captions, drawn from a seed, with exact regions of every phrase.

It is a demonstration and a measuring stick, not a claim about real collections.
"""

from heritage_align.data.motifs.dataset import Motifs

__all__ = ["Motifs"]
