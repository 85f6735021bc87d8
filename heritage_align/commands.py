"""The commands that heritage-align comes with, in the order of its help; plugins add others (`Registry.commands`)."""

COMMANDS = {
    "demo": "Run the whole story on the built-in motif collection.",
    "recipes": "Named systems as configs to start from.",
    "config": "Check a config, fill in its defaults, print its schema.",
    "models": "Say which files a model needs and which are here.",
    "plugins": "List, show, check and create plugins.",
    "index": "Encode a collection into a store; update, verify and merge stores.",
    "search": "Answer text or image queries from a store.",
    "calibrate": "Find out what a store's scores mean: when nothing fits.",
    "rerank": "Rescore a TREC run with the config's similarity.",
    "train": "Fit a system to a collection: checkpoints, resume, early stopping.",
    "evaluate": "Recall of a system on a data set, in the papers' form.",
    "golden": "Retrieval between annotated regions and their phrases.",
    "serve": "Answer searches and reranks over HTTP.",
    "explain": "Show which region of an image answered which phrase.",
    "bench": "Time the kernels against their peers on this machine.",
    "doctor": "Say what is installed, built and found, and how to get the rest.",
}
