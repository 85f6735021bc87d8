"""Words of a text with their parts of speech, by whatever tagger the settings name."""
